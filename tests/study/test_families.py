"""Networks of many families, as timm builds them: every analysis runs on each, or says why not."""

import numpy as np
import pytest
import timm
import torch

from tests.conftest import TINY_RESNET, TINY_VIT
from tests.labelled import layers
from zoo.analyses import choose_analyses, load_analysis
from zoo.analyses.engine import compare_models
from zoo.claims import judge
from zoo.config import Settings
from zoo.models.build import build
from zoo.models.files import describe_module
from zoo.study.axes import select
from zoo.study.prepare import prepare_study

DIGITS = [str(i) for i in range(10)]
ATTENDING = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
WINDOWS = {"img_size": 32, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
FOUR, NARROW = (1, 1, 1, 1), (16, 32, 32, 64)
# Settings, side of the images, family, and how many blocks `--layers blocks` finds.
FAMILIES = {
    "regnetx_002": ({}, 32, "cnn", 13),
    "convnext_atto": ({"depths": FOUR, "dims": NARROW}, 32, "cnn", 4),
    "efficientnet_b0": ({}, 32, "cnn", 15),
    "mobilenetv3_small_050": ({}, 32, "cnn", 10),
    "densenet121": ({"block_config": (2, 2, 2, 2), "growth_rate": 8}, 32, "cnn", 8),
    "poolformer_s12": ({}, 32, "cnn", 12),
    "edgenext_xx_small": ({}, 32, "windowed", 12),
    "mobilevit_xxs": ({}, 32, "windowed", 16),
    "maxvit_pico_rw_256": ({"img_size": 64, "depths": FOUR}, 64, "windowed", 4),
    "pvt_v2_b0": ({}, 32, "windowed", 8),
    "xcit_nano_12_p16_224": ({"img_size": 32, "depth": 3}, 32, "windowed", 5),
    "swin_tiny_patch4_window7_224": (WINDOWS | {"window_size": 4}, 32, "windowed", 4),
    "deit_tiny_distilled_patch16_224": (ATTENDING, 16, "vit", 2),
    "eva02_tiny_patch14_224": (ATTENDING, 16, "vit", 2),
    "cait_xxs24_224": (ATTENDING, 16, "vit", 4),
    "levit_128s": ({"img_size": 64, "depth": (1, 1, 1)}, 64, "windowed", 3),
    "mixer_s32_224": ({"img_size": 64}, 64, "mlp", 8),
}


def floats(result):
    """Every measured variable of a result and of its parts, by what it is of."""
    found = {(str(key), "", ""): values for key, values in result.data.data_vars.items()}
    for part in result.parts:
        of = part.network + part.network_b, part.layer
        found |= {(str(key), *of): values for key, values in part.data.data_vars.items()}
    return {key: values for key, values in found.items() if values.dtype.kind == "f"}


def numbers(result):
    """Every metric by what it is of."""
    return {(m.measure, m.network, m.network_b): m.value for m in result.metrics}


def test_a_vit_of_a_single_block_is_a_vit(digit_images):
    images, labels = digit_images
    torch.manual_seed(0)
    module = build("vit", classes=10, image_size=16, **TINY_VIT | {"depth": 1}).eval()
    model = describe_module(module, name="m", image_size=16, class_names=DIGITS)
    settings = Settings(references=False, shown_images=1)
    found = compare_models([model], images, labels, class_names=DIGITS, settings=settings)
    assert [network.family for network in found.networks] == ["vit"]
    distances = found.results["attention-distance"].data["distance"]
    assert distances.shape == (1, 2)
    assert np.isfinite(distances).all()
    beside = {"similarity", "differences", "stitching"}  # another network
    assert set(found.not_applicable) == beside | {"feature-maps", "local-heads"}  # a CNN
    for name, result in found.results.items():
        assert load_analysis(name).draw(result, ["m"])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_analysis_runs_or_says_why_not(name):
    kwargs, side, family, blocks = FAMILIES[name]
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=3, **kwargs).eval()
    model = describe_module(module, name="m", image_size=side, class_names=list("abc"))
    images = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    settings = Settings(batch_size=4, references=False, shown_images=1)
    found = compare_models(
        [model], images, np.arange(8) % 2, class_names=tuple("abc"), settings=settings
    )
    judge(found)
    assert [network.family for network in found.networks] == [family]
    (subject,) = prepare_study([model], images, None, (), (), settings, "cpu").networks
    assert len(subject.trace.of_role("block")) == blocks
    assert set(found.results) | set(found.not_applicable) == set(choose_analyses())
    assert all(found.not_applicable.values())
    for result in found.results.values():
        assert all(np.isfinite(metric.value) for metric in result.metrics)
        for key, values in floats(result).items():
            # Not every layer has a branch of each kind: a block of convolutions does not attend.
            measured = values.sel(path="sum") if "path" in values.dims else values
            measured = measured.max("branch") if "branch" in measured.dims else measured
            if not np.isfinite(measured).all():
                assert result.notes, key


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_all_layers_are_compared_and_those_without_a_value_are_named(name):
    kwargs, side, *_ = FAMILIES[name]
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=3, **kwargs).eval()
    model = describe_module(module, name="m", image_size=side)
    images = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    settings = Settings(batch_size=4, references=False, layers="all")
    result = compare_models([model], images, only=["cka"], settings=settings).results["cka"]
    own = np.diagonal(select(result.data["cka"], "m", "m").values)
    for layer, value in zip(layers(result, "m"), own, strict=True):
        if np.isnan(value):
            assert any(note.startswith(f"m: {layer} ") for note in result.notes)
        else:
            assert value == pytest.approx(1)
    assert np.isfinite(own).mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_beside_a_vit_differs_and_is_stitched_or_says_why_not(name):
    kwargs, side, *_ = FAMILIES[name]
    torch.manual_seed(0)
    nets = {
        "m": timm.create_model(name, num_classes=3, **kwargs),
        "v": build(
            "vit", classes=3, image_size=side, patch_size=side // 4, embed_dim=16, depth=2,
            num_heads=2,
        ),
    }  # fmt: skip
    models = [
        describe_module(net.eval(), name=key, image_size=side, class_names=list("abc"))
        for key, net in nets.items()
    ]
    images = np.random.default_rng(0).integers(0, 256, (15, side, side, 3), dtype=np.uint8)
    labels = np.where(np.arange(15) % 2, *(model(images).argmax(1).numpy() for model in models))
    found = compare_models(
        models, images, labels, class_names=tuple("abc"), only=["differences", "stitching"],
        settings=Settings(batch_size=5, references=False),
    )  # fmt: skip
    differences = found.results["differences"]
    assert differences.networks == ("m", "v")
    assert list(differences.data["rated"].values) == ["m", "v"]
    if why := found.not_applicable.get("stitching"):
        assert why.startswith("m: not stitched: no block's output lies over the image")
        return
    result = found.results["stitching"]
    into = {key: select(result.data["kept"], "m", key).values for key in ("m", "v")}
    assert into["v"].shape[1] == 2
    assert np.isfinite(into["v"]).all() or not into["v"].shape[0]
    assert into["m"].size or any(note.startswith("m: not ") for note in result.notes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_analysis_runs_in_half_precision(dtype):
    torch.manual_seed(0)
    networks = {
        "vit": build("vit", classes=3, image_size=16, **TINY_VIT),
        "cnn": build("resnet18", classes=3, image_size=16, **TINY_RESNET),
    }
    models = [
        describe_module(net.eval(), name=name, image_size=16, class_names=list("abc"))
        for name, net in networks.items()
    ]
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)

    def compare():
        settings = Settings(batch_size=8, references=False, shown_images=2)
        return compare_models(
            models, images, np.arange(16) % 3, class_names=tuple("abc"), settings=settings
        )

    whole = compare()
    for net in networks.values():
        net.to(dtype)
    found = compare()
    assert found.not_applicable == {}
    for name, result in found.results.items():
        assert numbers(result).keys() == numbers(whole.results[name]).keys()
        assert np.isfinite(list(numbers(result).values())).all()
        expected = floats(whole.results[name])
        assert floats(result).keys() == expected.keys()
        for key, values in floats(result).items():
            assert values.shape == expected[key].shape
            assert np.array_equal(np.isfinite(values), np.isfinite(expected[key])), key
    for name in ("cka", "attention-distance", "residuals", "receptive-field"):
        half = numbers(found.results[name])
        for key, value in numbers(whole.results[name]).items():
            assert half[key] == pytest.approx(value, rel=0.1, abs=0.1), key
