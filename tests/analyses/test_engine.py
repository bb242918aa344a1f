import dataclasses

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.labelled import layers, values
from zoo.analyses.engine import compare_models
from zoo.capture import HookPoint
from zoo.config import Settings
from zoo.errors import UserError
from zoo.models.files import describe_module
from zoo.study.accumulator import Accumulator
from zoo.study.one_pass import MUCH_MEMORY, run_pass, warn_of_memory
from zoo.study.prepare import prepare_study as prepare


class Watching(Accumulator):
    def __init__(self, layer):
        self.layer, self.seen, self.sums = layer, [], []

    def hook_points(self, index):
        return [HookPoint(self.layer)]

    def observe(self, index, hook_point, value):
        self.seen.append((index, hook_point.layer, len(value)))
        self.sums.append(value.double().sum().item())

    def end_batch(self, batch):
        self.seen.append(("end", batch.start, batch.stop))


def study_of(models, images, **settings):
    options = Settings(references=False, batch_size=20, **settings)
    return prepare(models, images, None, (), (), options, torch.device("cpu"))


def test_one_pass_feeds_every_accumulator(make_model, digit_images):
    model = make_model("vit", "v")
    calls = []
    model.module.register_forward_hook(lambda *_: calls.append(1))
    first, second = Watching("blocks.0"), Watching("blocks.0")
    study = study_of([model], digit_images[0])
    calls.clear()
    run_pass(study, [first, second])
    assert len(calls) == 3
    assert first.seen == second.seen
    assert first.seen[:3] == [(0, "blocks.0", 20), ("end", 0, 20), (0, "blocks.0", 20)]
    assert first.sums == second.sums


def test_each_model_gets_the_images_its_own_way(make_model, digit_images):
    small = make_model("vit", "small")
    large = make_model("vit", "large", image_size=32, mean=[0.5] * 3, std=[0.5] * 3)
    study = study_of([small, large], digit_images[0])
    assert (study.networks[0].grid.height, study.networks[1].grid.height) == (4, 8)
    watching = Watching("head")
    run_pass(study, [watching])
    expected = large(digit_images[0][:20]).double().sum().item()
    assert watching.sums[1] == pytest.approx(expected, rel=1e-5)


def test_much_memory_for_attention_is_told_with_the_remedy(make_model, digit_images, caplog):
    study = study_of([make_model("vit", "v"), make_model("resnet18", "r")], digit_images[0])
    heads, tokens = study.networks[0].trace["blocks.0.attn"].attention[1:3]
    watched = {HookPoint("blocks.0.attn", "attention"): []}
    images = MUCH_MEMORY // (4 * heads * tokens**2)
    warn_of_memory(study.networks, [watched, {}], images)
    warn_of_memory(study.networks, [{HookPoint("blocks.0.attn"): []}, {}], 9 * images)
    assert not caplog.messages
    warn_of_memory(study.networks, [watched, {}], 6 * images)
    [told] = caplog.messages
    assert told.startswith("v: the attention weights of one layer take 6.0 GB for ")
    assert f"--batch-size {images // 4} " in told


class Headed(nn.Module):
    """A backbone, which other networks may have too, and a head."""

    def __init__(self, backbone, outputs):
        super().__init__()
        self.backbone, self.out = backbone, nn.Linear(10, outputs)

    def forward(self, x):
        return self.out(self.backbone(x))


def test_networks_that_share_a_backbone_are_measured_as_alone(make_model, digit_images):
    backbone = make_model("vit").module
    torch.manual_seed(0)
    models = [
        describe_module(Headed(backbone, 3), name="a", image_size=16),
        describe_module(Headed(backbone, 4), name="b", image_size=16, mean=[0.5] * 3),
    ]
    only = ["cka", "attention-distance", "localisation", "residuals"]
    settings = Settings(references=False, batch_size=20)

    def compare(models):
        return compare_models(models, digit_images[0], only=only, settings=settings).results

    together = compare(models)
    for model in models:
        for name, alone in compare([model]).items():
            # What is read against other networks, or chosen by all of them, is no network's own.
            shared = {k for k, v in alone.data.data_vars.items() if "matched" in v.dims}
            for key in set(alone.data.data_vars) - shared - {"cka_without_dominant"}:
                expected = values(alone, key, model.name, model.name if name == "cka" else "")
                own = values(together[name], key, model.name, model.name if name == "cka" else "")
                np.testing.assert_allclose(own, expected, atol=1e-6, err_msg=key)
            for part in alone.parts:
                own = together[name].part(part.network, part.layer)
                for key, expected in part.data.data_vars.items():
                    np.testing.assert_allclose(own[key], expected, atol=1e-6, err_msg=key)


def test_one_network_that_gets_its_images_in_two_ways_is_two_models(make_model, digit_images):
    module = make_model("vit").module
    wide = {"mean": [0.5] * 3, "std": [0.1] * 3}
    models = [
        describe_module(module, name=name, image_size=16, **known)
        for name, known in {"plain": {}, "wide": wide}.items()
    ]
    watching = Watching("blocks.0")
    run_pass(study_of(models, digit_images[0]), [watching])
    assert [step[0] for step in watching.seen] == [0, 1, "end"] * 3
    for s, model in enumerate(models):
        alone = Watching("blocks.0")
        run_pass(study_of([model], digit_images[0]), [alone])
        assert watching.sums[s::2] == alone.sums


class Giving(nn.Module):
    """Gives its logits among other things."""

    def __init__(self, form):
        super().__init__()
        self.body, self.form = nn.Linear(768, 3), form

    def forward(self, x):
        return self.form(self.body(x.flatten(1)))


@pytest.mark.parametrize(
    "form",
    [
        lambda y: {"features": 1 - y, "logits": y},
        lambda y: {"loss": None, "out": y},
        lambda y: (y, 2 * y),
        lambda y: [{"logits": y}],
    ],
)
def test_logits_are_found_in_what_a_network_gives(digit_images, form):
    images, labels = digit_images
    names = ("a", "b", "c")
    torch.manual_seed(0)
    module = Giving(form)
    plain = Giving(lambda y: y)
    plain.load_state_dict(module.state_dict())
    models = [
        describe_module(m, name=name, image_size=16, class_names=list(names))
        for name, m in {"of": module, "plain": plain}.items()
    ]
    assert torch.equal(models[0](images), models[1](images))
    result = compare_models(models, images, labels % 3, class_names=names, only=["accuracy"])
    found = result.results["accuracy"].data["predicted"]
    assert np.array_equal(found.sel(network="of"), found.sel(network="plain"))


def test_a_network_that_gives_no_tensor_is_named(digit_images):
    model = describe_module(Giving(lambda y: {"logits": None}), name="m", image_size=16)
    with pytest.raises(UserError, match="its output holds no tensor, it is dict"):
        compare_models([model], digit_images[0], only=["cka"])


def test_every_layer_of_windowed_attention_can_be_compared(digit_images):
    torch.manual_seed(0)
    sizes = {"img_size": 32, "embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4}
    module = timm.create_model("swinv2_tiny_window8_256", num_classes=3, **sizes)
    for name, parameter in module.named_parameters():
        if name.endswith("weight") and "norm" in name:  # zero at first: constant
            torch.nn.init.ones_(parameter)
    model = describe_module(module.eval(), name="m", image_size=32)
    settings = Settings(layers="all", references=False, batch_size=20)
    result = compare_models([model], digit_images[0], only=["cka"], settings=settings).results[
        "cka"
    ]
    assert any(name.endswith("attn.proj") for name in layers(result, "m"))
    assert not any("cpb_mlp" in name for name in layers(result, "m"))
    assert result.notes == ()
    assert np.diagonal(values(result, "cka", "m", "m")) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "what", "total"),
    # The stem, two blocks and the two branches of each.
    [("receptive-field", "gradients of v", 32 * 7), ("robustness", "changes of the images", None)],
)
def test_an_analysis_with_passes_of_its_own_tells_how_far_it_is(
    make_model, digit_images, name, what, total
):
    told = []
    compare_models(
        [make_model("vit", "v"), make_model("vit", "w", seed=1)], *digit_images,
        class_names=[str(i) for i in range(10)], only=[name],
        settings=Settings(references=False), on_progress=lambda *of: told.append(of),
    )  # fmt: skip
    steps = [(done, of) for done, of, counted in told if counted == what]
    assert len(steps) > 5
    assert steps == sorted(steps)
    assert {of for _, of in steps} == {total or steps[-1][0] + 1}
    assert not total or steps[-1][0] == total


def test_shown_images_are_of_different_classes(make_model, digit_images):
    images, labels = digit_images
    found = compare_models([make_model("vit", "v")], images, labels, only=["accuracy"])
    shown = labels[list(found.shown)]
    assert len(set(shown)) == len(shown) == 6


def test_the_untrained_references_leave_the_global_generator_alone(make_model, digit_images):
    model = make_model("vit", "v")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = compare_models([model], digit_images[0], only=["cka"])
    assert torch.equal(torch.rand(3), expected)
    assert [network.state for network in found.networks] == ["trained", "initial"]


def test_the_models_come_back_as_they_were(make_model, digit_images):
    model = make_model("resnet18", "r")
    model.module.train()
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    compare_models([model], digit_images[0], only=["cka"])
    assert model.module.training
    assert all(torch.equal(before[k], v) for k, v in model.module.state_dict().items())
    assert not any(m._forward_hooks for m in model.module.modules())


def test_no_model_has_the_name_of_anothers_reference(make_model, digit_images):
    models = [make_model("vit", "v", seed=1), make_model("vit", "v untrained", seed=2)]
    said = "'v untrained' is the name of 'v' before training in this comparison: give"
    with pytest.raises(UserError, match=said):
        compare_models(models, digit_images[0][:8], only=["cka"])
    bare = Settings(references=False)
    found = compare_models(models, digit_images[0][:8], only=["cka"], settings=bare)
    assert found.results["cka"].networks == ("v", "v untrained")
    other = make_model("vit", "v", seed=3)
    models[1] = dataclasses.replace(models[1], name="v seed 3")
    with pytest.raises(UserError, match="'v seed 3' is the name of 'v' of another seed"):
        compare_models(models, digit_images[0][:8], only=["cka"], siblings=[(0, other)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": []}, "expected one or more models, got none"),
        ({"models": ["v", "v"]}, "different names, got v, v"),
        ({"images": np.zeros((8, 16, 16), np.uint8)}, "expected \\(n, height, width, 3\\) uint8"),
        ({"images": np.zeros((8, 16, 16, 3), np.float32)}, "got \\(8, 16, 16, 3\\) float32"),
        ({"images": np.zeros((3, 16, 16, 3), np.uint8)}, "expected at least 4 images, got 3"),
        ({"labels": np.zeros(7, np.int64)}, "expected 8 labels, got 7"),
        ({"only": ["ckaa"]}, "unknown analysis 'ckaa'; did you mean 'cka'"),
    ],
)
def test_bad_input_is_named(make_model, change, message):
    models = [make_model("vit", name) for name in change.get("models", ["v"])]
    images = change.get("images", np.zeros((8, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match=message):
        compare_models(models, images, change.get("labels"), only=change.get("only", ["cka"]))
