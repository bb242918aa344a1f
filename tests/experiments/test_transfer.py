import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from zoo.config import TrainConfig
from zoo.data.sources import Source, Split, load_source
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.experiments.classifiers import classifier_inputs, classifier_path, with_new_classifier
from zoo.experiments.transfer import MAX_TEST, prepare_data, transfer
from zoo.experiments.transfer_report import draw, layer_rows, save, verdicts
from zoo.figures import style
from zoo.measures.depth import thirds
from zoo.measures.linear_cka import linear_cka
from zoo.measures.ridge import ridge_probe
from zoo.models.files import describe_module, load_model
from zoo.models.preprocess import preprocess
from zoo.training import hardware
from zoo.training.loop import evaluate

CONFIG = TrainConfig(epochs=2, batch_size=20, learning_rate=0.003, precision="float32")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Forty digits to train on."""
    folder = tmp_path_factory.mktemp("data")
    prepare_data(load_source("digits", folder), folder, image_size=16, count=40)
    return folder


@pytest.fixture
def letters(make_model):
    """A model that knows ten classes of something else."""
    return make_model("vit", "vit-letters", seed=5, class_names=list("abcdefghij"))


def weights(module):
    return {name: t.clone() for name, t in module.state_dict().items()}


@pytest.mark.parametrize(("arch", "path"), [("vit", "head"), ("vit-gap", "head"), ("mixer", "head"),
                                            ("resnet18", "fc")])  # fmt: skip
def test_the_classifier_alone_is_new(make_model, arch, path):
    model = make_model(arch)
    before = weights(model.module)
    for classes in (10, 4):
        module, found = with_new_classifier(model, classes, seed=7)
        assert found == path
        after = weights(module)
        for name, tensor in before.items():
            if name.startswith(f"{path}."):
                assert len(after[name]) == classes
            else:
                assert torch.equal(after[name], tensor), name
    same_size, _ = with_new_classifier(model, 10, seed=7)
    if arch != "mixer":  # whose classifier starts at zero, whatever the seed
        assert not torch.equal(weights(same_size)[f"{path}.weight"], before[f"{path}.weight"])
    assert all(torch.equal(t, before[n]) for n, t in model.module.state_dict().items())


@pytest.mark.parametrize("arch", ["vit", "vit-gap", "resnet18"])
def test_what_the_classifier_sees_is_what_timm_gives_it(make_model, digit_images, arch):
    model, images = make_model(arch), digit_images[0]
    seen = classifier_inputs(model, classifier_path(model), images, "cpu")
    module = model.module.eval()
    with torch.no_grad():
        features = module.forward_features(preprocess(images, model.spec))
        expected = module.forward_head(features, pre_logits=True)
    assert seen == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_training_is_where_the_networks_run(make_model, digits, monkeypatch, device):
    made = []

    class Noted(hardware.Accelerator):
        def __init__(self, **known):
            made.append(known)
            super().__init__(**known)

    monkeypatch.setattr("zoo.training.hardware.Accelerator", Noted)
    transfer(make_model("vit"), digits, CONFIG, name="new", device=device)
    assert [known["cpu"] for known in made] == [True]


def test_bfloat16_is_asked_of_the_device_that_trains(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: "by the GPU")
    assert hardware.use_bf16("auto", "cuda:0") == "by the GPU"
    assert hardware.use_bf16("auto", "cpu") != "by the GPU"


@pytest.mark.parametrize("arch", ["vit", "test_resnet"])
def test_a_frozen_body_stays_bit_for_bit(make_model, digits, arch):
    model = make_model(arch, class_names=list("abcdefghij"))
    before = weights(model.module)
    done = transfer(model, digits, CONFIG, name="new", freeze=True)
    head = classifier_path(model)
    after = done.model.module.state_dict()
    assert list(after) == list(before)
    for name, tensor in after.items():
        # Batch statistics are among these: they must not have moved either.
        assert torch.equal(tensor, before[name]) != name.startswith(f"{head}."), name
    assert all(parameter.requires_grad for parameter in done.model.module.parameters())
    blocks = done.kept.cka[list(done.kept.blocks)]
    assert blocks == pytest.approx(np.ones(len(blocks)), abs=1e-9)
    assert done.accuracies.probe_before == done.accuracies.probe_after
    assert done.model.spec.training["freeze"]
    assert [v.detail for v in verdicts(done)] == ["no block has changed"]


def test_fine_tuning_beats_the_untrained_classifier_and_moves_every_layer(letters, digits):
    before = weights(letters.module)
    start, _ = with_new_classifier(letters, 10, seed=0)
    config = replace(CONFIG, epochs=40, learning_rate=0.01)
    steps = []
    done = transfer(
        letters, digits, config, name="vit-digits", on_progress=lambda *s: steps.append(s)
    )
    assert [told for told in steps if told[2] == "steps"][-1] == (80, 80, "steps")
    assert steps[-1] == (1, 1, "analyses")
    train, test = (load_subset(digits / part) for part in ("train", "test"))
    untrained = evaluate(start, letters.spec, train)["accuracy"]
    rated, most = done.accuracies, np.bincount(train.labels).argmax()
    assert rated.most_common == (test.labels == most).mean() < np.bincount(test.labels).max() / 359
    for model, found in ((letters, rated.probe_before), (done.model, rated.probe_after)):
        seen = [classifier_inputs(model, "head", part.images, "cpu") for part in (train, test)]
        assert found == ridge_probe(seen[0], train.labels, seen[1], test.labels).accuracy
    spec = done.model.spec
    assert spec.metrics["train/accuracy"] > untrained + 0.3
    assert done.accuracies.after > done.accuracies.most_common + 0.1
    assert done.accuracies.after == evaluate(done.model.module, spec, test)["accuracy"]
    moved = done.model.module.state_dict()
    assert not any(torch.equal(moved[n], t) for n, t in before.items() if "blocks" in n)
    assert all(torch.equal(t, before[n]) for n, t in letters.module.state_dict().items())
    assert (spec.name, spec.source, spec.subset, spec.subset_count) == ("vit-digits", "digits",
                                                                        "train", 40)  # fmt: skip
    assert spec.class_names == [str(i) for i in range(10)]
    assert (spec.mean, spec.std) == (letters.spec.mean, letters.spec.std)


def test_what_is_kept_is_linear_cka_of_before_and_after(letters, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.experiments.transfer.MAX_TEST", 100)  # one batch
    prepare_data(load_source("digits", tmp_path), tmp_path, image_size=16, count=40)
    done = transfer(letters, tmp_path, CONFIG, name="new")
    images = np.array(load_subset(tmp_path / "test").images)
    assert len(images) == 100
    values = []
    for model in (letters, done.model):
        out = {}
        model.module.blocks[1].register_forward_hook(lambda _, __, y, out=out: out.update(y=y))
        with torch.no_grad():
            model.module.eval()(preprocess(images, model.spec))
        values.append(out["y"].flatten(1).numpy())
    i = done.kept.layers.index("blocks.1")
    assert i in done.kept.blocks
    assert done.kept.cka[i] == pytest.approx(linear_cka(*values), abs=1e-6)
    assert done.kept.cka[i] < 0.9999


def test_a_transfer_is_saved_as_a_model_that_loads(letters, digits, digit_images, tmp_path):
    done = transfer(letters, digits, CONFIG, name="vit-digits")
    report = save(done, tmp_path, command="zoo transfer")
    loaded = load_model(tmp_path / "model")
    images = digit_images[0]
    assert torch.equal(loaded(images), done.model(images))
    assert loaded.digest == report["after"]["digest"]
    assert json.loads((tmp_path / "report.json").read_text()) == report
    rows = list(csv.DictReader((tmp_path / "layers.csv").open()))
    assert [row["layer"] for row in rows] == list(done.kept.layers)
    assert [float(r["cka"]) for r in rows] == pytest.approx(done.kept.cka, abs=1e-6)
    epochs = list(csv.DictReader((tmp_path / "model" / "epochs.csv").open()))
    assert [row["epoch"] for row in epochs] == ["1", "2"]
    (claim,) = report["claims"]
    assert (claim["id"], claim["models"], claim["n"]) == ("R-transfer", ["vit-digits"], 359)
    assert claim["value"] == report["metrics"]["transfer/vit-digits/kept/low_minus_high"]
    untrained = thirds(done.untrained.cka, done.kept.blocks)["low_minus_high"]
    assert claim["before"]["value"] == pytest.approx(untrained)
    assert report["images"] == {"train": 40, "validation": 40, "test": 359}
    assert (tmp_path / "transfer.svg").is_file()
    names = {key.removeprefix("transfer/vit-digits/") for key in report["metrics"]}
    assert {"accuracy/probe_before", "accuracy/after", "kept/low_minus_high"} <= names
    figure = draw(done)
    (axis,) = figure.axes
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["an untrained network", "the network before the transfer"]
    assert axis.get_ylabel().endswith("with the network after the transfer")
    assert axis.lines[-1].get_color() == style.COLOURS[0]  # a ViT's, as beside a CNN
    assert axis.get_xticklabels()[0].get_text() == "stem"
    title = axis.get_title(loc="left")
    assert f"accuracy after {done.accuracies.after:.3f} (359 test images)" in title


def test_what_cannot_be_measured_is_none_and_named(letters, digits):
    done = transfer(letters, digits, CONFIG, name="new")
    kept = replace(done.kept, cka=np.where(np.arange(4) == 1, np.nan, done.kept.cka))
    broken = replace(done, kept=kept)
    assert layer_rows(broken)[1]["cka"] is None
    assert all(math.isfinite(value) for value in broken.metrics.values())
    with torch.no_grad():
        letters.module.norm.weight.zero_()
        letters.module.norm.bias.zero_()
    done = transfer(letters, digits, CONFIG, name="new", freeze=True)
    assert done.accuracies.probe_before is None
    assert "vit-letters: no linear probe: features are constant" in done.notes
    assert "transfer/new/accuracy/probe_before" not in done.metrics


def test_a_model_of_the_same_source_is_marked_unless_it_has_the_same_test_split(make_model, digits):
    digest = load_subset(digits / "test").info.digest
    for known, marked in (("", True), (digest, False)):
        model = make_model("vit", source="digits", test_digest=known)
        done = transfer(model, digits, CONFIG, name="new", freeze=True)
        assert any("may have been trained on" in note for note in done.notes) == marked


def test_the_data_are_cut_and_stored_no_larger_than_they_must(tmp_path):
    labels = np.arange(3000) % 3
    picture = np.zeros((70, 80, 3), np.uint8)
    split = Split(labels, lambda i: picture)
    source = Source("imagefolder", ("a", "b", "c"), split, split)
    for size, expected in ((8, 8), (224, 70)):
        prepare_data(source, tmp_path / str(size), image_size=size, count=30, seed=1)
        train, validation, test = (load_subset(tmp_path / str(size) / p)
                                   for p in ("train", "validation", "test"))  # fmt: skip
        assert train.info.image_size == expected
        assert (len(train), len(validation), len(test)) == (30, 30, MAX_TEST)
        counts = np.bincount(np.array(test.labels))
        assert counts.max() - counts.min() <= 1
    small = replace(source, train=Split(labels, lambda i: picture[:8, :8]))
    prepare_data(small, tmp_path / "small", image_size=32, count=30)
    assert load_subset(tmp_path / "small" / "train").info.image_size == 32


def test_a_network_without_a_classifier_is_refused():
    model = describe_module(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), name="mine", image_size=1)
    with pytest.raises(UserError, match="mine: expected a network with one classifier"):
        classifier_path(model)
