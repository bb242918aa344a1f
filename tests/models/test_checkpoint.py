"""Files of weights as people have them."""

import argparse
import pathlib
import pickle

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models import get_model

from zoo.errors import UserError
from zoo.models.checkpoint import Checkpoint, match_names, read_checkpoint
from zoo.models.imported import ImportOptions, import_model


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def saved(folder, content, name="w.th"):
    torch.save(content, folder / name)
    return folder / name


def same(weights, module):
    expected = module.state_dict()
    return weights.keys() == expected.keys() and all(
        torch.equal(weights[k], expected[k]) for k in weights
    )


@pytest.mark.parametrize("name", ["w.th", "w.ckpt", "w.pth.tar", "w", "w.safetensors", "w.bin"])
@pytest.mark.parametrize("key", ["", "state_dict", "model", "net", "model_state_dict", "anything"])
def test_weights_are_found_whatever_the_suffix_and_the_key(tmp_path, name, key):
    content = network().state_dict()
    path = saved(
        tmp_path, {key: content, "epoch": 3, "best": torch.tensor(0.9)} if key else content, name
    )
    read = read_checkpoint(path)
    assert same(read.weights, network())
    assert (read.key, read.notes) == (key, ())


@pytest.mark.parametrize("name", ["w", "w.pth"])
def test_safetensors_are_told_by_content(tmp_path, name):
    save_file(network().state_dict(), tmp_path / name)
    assert same(read_checkpoint(tmp_path / name).weights, network())


def test_the_format_of_torch_before_1_6_is_read(tmp_path):
    torch.save(
        {"net": network().state_dict()}, tmp_path / "w.t7", _use_new_zipfile_serialization=False
    )
    assert same(read_checkpoint(tmp_path / "w.t7").weights, network())


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [
        ("model", "model_ema"), ("model", "ema"), ("state_dict", "state_dict_ema"),
        ("net", "averaged_model"), ("whatever", "ema_state_dict"),
    ],
)  # fmt: skip
def test_averaged_weights_are_taken_and_said_and_the_others_by_key(tmp_path, plain, averaged):
    content = {plain: network(0).state_dict(), averaged: network(1).state_dict()}
    read = read_checkpoint(saved(tmp_path, content))
    assert same(read.weights, network(1))
    assert read.notes == (
        f"the averaged weights in '{averaged}' were taken; --key {plain} takes the others",
    )
    assert same(read_checkpoint(tmp_path / "w.th", plain).weights, network(0))
    with pytest.raises(
        UserError, match=f"no weights in --key nothing; there are: {plain}, {averaged}"
    ):
        read_checkpoint(tmp_path / "w.th", "nothing")


def test_of_networks_that_no_name_ranks_none_is_guessed(tmp_path):
    content = {"student": network(0).state_dict(), "teacher": network(1).state_dict()}
    path = saved(tmp_path, content)
    with pytest.raises(UserError, match="holds weights in student, teacher: choose by --key"):
        read_checkpoint(path)
    assert same(read_checkpoint(path, "teacher").weights, network(1))


def test_nested_weights_have_a_path(tmp_path):
    path = saved(tmp_path, {"ema": {"module": network().state_dict(), "decay": 0.99}})
    assert read_checkpoint(path).key == "ema.module"


def test_a_trained_networks_optimizer_is_not_taken_for_it(tmp_path):
    module = network()
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    content = {"model": module.state_dict(), "optimizer": optimizer.state_dict()}
    assert same(read_checkpoint(saved(tmp_path, content)).weights, module)


class Hyper:
    def __init__(self):
        self.width = 4


class Evil:
    def __reduce__(self):
        return (open, ("ran", "w"))


def test_what_timm_and_lightning_keep_beside_the_weights_is_passed_over_and_not_run(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = {
        "state_dict": network().state_dict(),
        "args": argparse.Namespace(lr=0.1),
        "metric": np.float64(81.5),
        "hyper_parameters": {"net": Hyper(), "root": pathlib.Path("data")},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"dirpath": pathlib.Path("x")}},
        "strange": Evil(),
    }
    assert same(read_checkpoint(saved(tmp_path, content)).weights, network())
    assert not (tmp_path / "ran").exists()


def test_a_whole_network_is_named_and_not_unpickled(tmp_path):
    path = saved(tmp_path, network())
    with pytest.raises(UserError, match="a whole network, which is code: save its state_dict"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x1f\x8b\x08\0\0\0", "gzip: unpack it first"),
        (b"", "is not a plain state_dict or checkpoint, or is damaged"),
        (pickle.dumps({"weight": Evil()}), "is not a plain state_dict or checkpoint"),
    ],
)
def test_other_files_are_named_in_one_line(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=said) as raised:
        read_checkpoint(tmp_path / "w.pth")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


def test_a_scripted_network_is_named(tmp_path):
    torch.jit.script(network()).save(tmp_path / "w.pt")
    with pytest.raises(UserError, match="torchscript checkpoint"):
        read_checkpoint(tmp_path / "w.pt")


def under(beginning, module):
    return {f"{beginning}{name}": tensor for name, tensor in module.state_dict().items()}


def fitted(weights, prefix=""):
    return match_names(Checkpoint(pathlib.Path("w"), weights), network().state_dict(), prefix)


@pytest.mark.parametrize("beginning", ["module.", "model.", "model.backbone.", "net.module.", "0."])
def test_what_comes_before_the_networks_names_is_taken_away(beginning):
    weights, notes = fitted(under(beginning, network()))
    assert same(weights, network())
    assert not notes


def test_what_stands_beside_the_network_is_left_out_and_said():
    weights, notes = fitted(under("model.", network()) | {"loss.weight": torch.ones(2)})
    assert same(weights, network())
    assert notes == ["1 tensor outside 'model.' left out, such as 'loss.weight'"]


def test_of_two_networks_that_fit_the_averaged_one_is_taken_or_none():
    both = under("model.", network(0)) | under("model_ema.", network(1))
    weights, notes = fitted(both)
    assert same(weights, network(1))
    assert notes[0] == "the averaged weights 'model_ema.' were taken, not 'model.'"
    assert same(fitted(both, "model")[0], network(0))
    twins = under("encoder_q.", network(0)) | under("encoder_k.", network(1))
    with pytest.raises(
        UserError, match=r"several networks that fit, encoder_.\., encoder_.\.: choose"
    ):
        fitted(twins)
    with pytest.raises(UserError, match="--prefix head; they begin with encoder_k, encoder_q"):
        fitted(twins, "head")


def test_compiled_averaged_and_parallel_networks(tmp_path):
    averaged = AveragedModel(nn.DataParallel(network()))
    read = read_checkpoint(saved(tmp_path, averaged.state_dict()))
    assert same(match_names(read, network().state_dict())[0], network())
    compiled = torch.compile(network(), backend="eager")
    read = read_checkpoint(saved(tmp_path, nn.DataParallel(compiled).state_dict()))
    assert same(match_names(read, network().state_dict())[0], network())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32_and_is_said(tmp_path, dtype):
    module = timm.create_model("test_vit").to(dtype)
    given = ImportOptions(weights=saved(tmp_path, module.state_dict()))
    imported = import_model("timm:test_vit", "v", given)
    assert same(imported.module.state_dict(), module.float())
    assert imported.notes == (f"stored as {str(dtype)[6:]}, kept and run as float32",)


@pytest.mark.parametrize("source", ["timm:test_vit", "torchvision:squeezenet1_1"])
def test_a_classifier_of_another_size_is_refused_with_what_to_do(tmp_path, source):
    library, _, name = source.partition(":")
    make = timm.create_model if library == "timm" else get_model
    module = make(name, num_classes=3).eval()
    path = saved(tmp_path, {"model": under("module.", module)}, "fine.ckpt")
    with pytest.raises(UserError, match=r"has 3 outputs, that of .* 1,000: say --classes 3"):
        import_model(source, "v", ImportOptions(weights=path))
    assert import_model(source, "v", ImportOptions(weights=path, class_names=list("abc"))).module
    with pytest.raises(UserError, match="asked for without: leave it out by --ignore-head"):
        import_model(source, "v", ImportOptions(weights=path, class_names=[]))
    without = import_model(source, "v", ImportOptions(weights=path, no_head=True))
    assert without.spec.class_names == []
    x = torch.randn(1, 3, 160, 160)
    features = without.module.eval()(x)
    if library == "timm":
        assert torch.equal(
            features, module.forward_head(module.forward_features(x), pre_logits=True)
        )
    else:
        module.classifier[1] = nn.Identity()
        assert torch.equal(features, module(x))


def test_weights_without_a_classifier_say_no_head(tmp_path):
    module = timm.create_model("test_vit", num_classes=0)
    path = saved(tmp_path, module.state_dict())
    with pytest.raises(UserError, match=r"holds no classifier \(head.weight\).*by --no-head"):
        import_model("timm:test_vit", "v", ImportOptions(weights=path))
    imported = import_model("timm:test_vit", "v", ImportOptions(weights=path, no_head=True))
    assert same(imported.module.state_dict(), module)
    with pytest.raises(UserError, match="has no classes: leave out --classes"):
        import_model(
            "timm:test_vit", "v", ImportOptions(weights=path, no_head=True, class_names=["a"])
        )


def test_position_embeddings_of_another_grid_are_resampled_by_timm_and_said(tmp_path):
    large = timm.create_model("test_vit", img_size=160, num_classes=3)
    nn.init.normal_(large.pos_embed)
    path = saved(tmp_path, large.state_dict())
    given = ImportOptions(weights=path, image_size=96, class_names=list("abc"))
    imported = import_model("timm:test_vit", "v", given)
    expected = timm.layers.resample_abs_pos_embed(large.pos_embed, [6, 6], num_prefix_tokens=1)
    assert torch.allclose(imported.module.pos_embed, expected)
    assert imported.notes == (
        "resampled to the network's grid by timm: pos_embed from 1 × 101 × 64 to 1 × 37 × 64",
    )


def test_a_torchvision_vits_positions_too(tmp_path):
    large = get_model("vit_b_32", image_size=96, num_classes=2)
    path = saved(tmp_path, large.state_dict())
    given = ImportOptions(weights=path, image_size=64, class_names=list("ab"))
    imported = import_model("torchvision:vit_b_32", "v", given)
    assert imported.module.encoder.pos_embedding.shape == (1, 5, 768)
    assert "pos_embedding from 1 × 10 × 768 to 1 × 5 × 768" in imported.notes[-1]
