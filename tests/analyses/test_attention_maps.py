"""Entropy and map correlation against independent formulas; the analysis as a whole."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import timm
import torch
from scipy.stats import entropy, pearsonr

from tests.analyses.test_rollout import random_weights, rollout_by_loops
from tests.labelled import values
from zoo.analyses import attention_maps
from zoo.analyses.attention_maps import attention_entropy, map_correlation
from zoo.analyses.engine import compare_models
from zoo.capture import HookPoint, observe
from zoo.config import Settings
from zoo.models.files import LoadedModel, describe_module
from zoo.study.one_pass import run_pass
from zoo.study.prepare import prepare_study

VIT = "vit_small_patch16_224"
SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2}
# How a model is made, its prefix tokens, and whether its classifier reads the first of them.
MODELS = {
    "cls": (VIT, {}, 1, True),
    "gap": (VIT, {"class_token": False, "global_pool": "avg"}, 0, False),
    "registers": (VIT, {"reg_tokens": 3}, 4, True),
    "registers-gap": (
        VIT,
        {"reg_tokens": 3, "class_token": False, "global_pool": "avg"},
        3,
        False,
    ),
    "cls-gap": (VIT, {"global_pool": "avg"}, 1, False),
    "distilled": ("deit_tiny_distilled_patch16_224", {}, 2, True),
    "eva": ("eva02_tiny_patch14_224", {}, 1, False),
}


def make(kind: str, name: str = "", *, seed: int = 0, **kwargs) -> LoadedModel:
    arch, own, _, _ = MODELS[kind]
    torch.manual_seed(seed)
    module = timm.create_model(arch, num_classes=3, **(SMALL | own | kwargs)).eval()
    for parameter_name, parameter in module.named_parameters():
        if any(part in parameter_name for part in ("qkv.weight", "q_proj.w", "k_proj.w")):
            parameter.data.normal_(std=0.4)
    return describe_module(module, name=name or kind, image_size=kwargs.get("img_size", 16))


def some_images(count: int = 11, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, side, side, 3), dtype=np.uint8)


def run(*models: LoadedModel, images: np.ndarray | None = None, **known):
    found = compare_models(
        models,
        some_images() if images is None else images,
        only=["attention-maps"],
        settings=Settings(batch_size=4, shown_images=11, references=False),
        **known,
    )
    return found.results.get("attention-maps"), found.not_applicable.get("attention-maps")


def weights_of(model: LoadedModel, images: np.ndarray) -> list[np.ndarray]:
    """Every layer's weights on all images at once, captured outside the engine."""
    seen: list[np.ndarray] = []
    hook_points = [
        HookPoint(f"blocks.{i}.attn", "attention") for i in range(len(model.module.blocks))
    ]
    with observe(model.module, hook_points, lambda _, w: seen.append(w.double().numpy())):
        model(images)
    return seen


# --- the measures -------------------------------------------------------------------------


def test_entropy_agrees_with_scipy():
    weights = random_weights(1, 2, 3, 4, 7)
    expected = entropy(weights.numpy(), axis=-1).mean(axis=-1)
    np.testing.assert_allclose(attention_entropy(weights).numpy(), expected, atol=1e-12)


def test_entropy_runs_from_one_key_to_all_of_them():
    assert attention_entropy(torch.eye(6)[None])[0] == 0
    even = torch.full((1, 6, 6), 1 / 6, dtype=torch.float64)
    assert float(attention_entropy(even)[0]) == pytest.approx(math.log(6))


def test_map_correlation_agrees_with_scipy_and_ignores_scale_and_offset():
    a, b = random_weights(2, 5, 3, 4), random_weights(3, 5, 3, 4)
    found = map_correlation(a, 7 * b + 2).numpy()
    expected = [pearsonr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(map_correlation(a, a).numpy(), 1)


def test_map_correlation_is_not_defined_for_constant_maps():
    a, b = random_weights(2, 2, 3, 4).float(), random_weights(3, 2, 3, 4).float()
    b[1] = 0.1 + 1e-9 * b[1]
    found = map_correlation(a, b)
    assert torch.isfinite(found[0])
    assert torch.isnan(found[1])
    with pytest.raises(ValueError, match="one shape"):
        map_correlation(a, b[:, :2])


# --- the analysis ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_a_models_maps_and_entropy_are_those_of_its_own_weights(kind):
    model, images = make(kind), some_images()
    _, _, prefix, class_token = MODELS[kind]
    result, _ = run(model)
    weights = weights_of(model, images)
    rows = [0] if class_token else list(range(prefix, prefix + 16))
    maps, heads = values(result, "rollout", kind), values(result, "heads", kind)
    assert maps.shape == (11, 3, 4, 4)
    for i in (0, 5, 10):  # in the first, a middle and the last batch
        rollout = rollout_by_loops([layer[i] for layer in weights])
        for layer in range(3):
            expected = rollout[layer][rows, prefix:].mean(axis=0).reshape(4, 4)
            expected /= expected.mean()  # 1: an even share
            np.testing.assert_allclose(maps[i, layer], expected, rtol=1e-4)
        expected = weights[-1][i][:, rows, prefix:].mean(axis=1).reshape(2, 4, 4)
        expected /= expected.mean(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(heads[i], expected, rtol=1e-4)
    expected = np.stack([entropy(layer, axis=-1).mean(axis=(0, 2)) for layer in weights])
    np.testing.assert_allclose(values(result, "entropy", kind), expected, atol=1e-5)
    relative = expected / math.log(prefix + 16)
    np.testing.assert_allclose(values(result, "normalised_entropy", kind), relative, atol=1e-5)
    assert result.metric("entropy", kind) == pytest.approx(relative.mean())
    assert any("reads no class token" in note for note in result.notes) is not class_token


def test_maps_of_two_models_are_correlated_image_by_image():
    models = (make("cls"), make("registers-gap", seed=1))
    result, _ = run(*models)
    finals = [values(result, "rollout", m.name)[:, -1].reshape(11, 16) for m in models]
    expected = [pearsonr(a, b).statistic for a, b in zip(*finals, strict=True)]
    found = result.metric("map_correlation", "cls", "registers-gap")
    assert found == pytest.approx(np.mean(expected), abs=1e-4)
    # Two batches, since three would leave one of 3 images; each in a random order of its own.
    random = np.random.default_rng(0)
    others = [*random.permutation(6), *(6 + random.permutation(5))]
    expected = [pearsonr(finals[0][i], finals[1][j]).statistic for i, j in enumerate(others)]
    found = result.metric("map_correlation_permuted_images", "cls", "registers-gap")
    assert found == pytest.approx(np.mean(expected), abs=1e-4)


def test_a_model_agrees_with_itself_and_not_with_other_images():
    result, _ = run(make("cls", "a"), make("cls", "b"))
    assert result.metric("map_correlation", "a", "b") == pytest.approx(1, abs=1e-6)
    assert result.metric("map_correlation_permuted_images", "a", "b") < 0.9


def test_different_grids_are_not_correlated_but_noted():
    result, _ = run(make("cls"), make("gap", patch_size=8))
    assert {metric.measure for metric in result.metrics} == {"entropy"}
    assert any("grids differ (4×4, 2×2)" in note for note in result.notes)


def test_even_attention_gives_no_correlation_and_says_so():
    blind = make("gap", "blind")
    for block in blind.module.blocks:
        block.attn.qkv.weight.data.zero_()
        block.attn.qkv.bias.data.zero_()
    result, _ = run(blind, make("gap"))
    assert result.metric("entropy", "blind") == pytest.approx(1, abs=1e-6)
    assert {metric.measure for metric in result.metrics} == {"entropy"}
    assert any("on 11 of 11 images a map is constant" in note for note in result.notes)
    assert any("blind and gap: map_correlation is not defined" in n for n in result.notes)


def test_a_network_that_gives_nan_has_no_metrics_but_notes():
    broken = make("cls", "broken")
    broken.module.blocks[1].attn.qkv.weight.data.fill_(math.nan)
    result, _ = run(broken, images=some_images(4))
    assert result.metrics == ()
    assert any("broken: entropy is not defined" in note for note in result.notes)
    assert attention_maps.draw(result, ["broken"])


def test_images_are_kept_as_the_model_sees_them():
    model = make("cls")
    spec = dataclasses.replace(model.spec, crop_fraction=0.5, interpolation="nearest")
    images = some_images(side=32)
    result, _ = run(dataclasses.replace(model, spec=spec), images=images)
    kept = values(result, "images", "cls")
    assert kept.dtype == np.uint8
    np.testing.assert_array_equal(kept, images[:, 8:24, 8:24])


def test_more_images_take_no_more_memory_than_two_numbers_each():
    kept = []
    for count in (8, 80):
        known = Settings(batch_size=4, shown_images=3, references=False)
        models = (make("cls"), make("gap"))
        study = prepare_study(models, some_images(count), None, (), (), known, "cpu")
        accumulator = attention_maps.start(study)
        run_pass(study, [accumulator])
        kept.append(sum(sizes(value) for value in vars(accumulator).values()))
    assert kept[1] - kept[0] == 72 * 2 * 8


def sizes(value: object) -> int:
    """Bytes of the numbers in nested dicts and lists."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(sizes, value)) if isinstance(value, list) else 0
