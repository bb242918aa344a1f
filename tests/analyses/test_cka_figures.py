"""CKA's figures: all models at a glance, then every pair."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

import zoo
from tests.conftest import TINY_VIT
from tests.figures.test_style import assert_legible
from zoo.analyses import cka
from zoo.analyses.cka_figures import summary_matrices
from zoo.models.build import build
from zoo.study.results import Array, Result, Scale


def found(*models: str) -> Result:
    """Random similarities of four, five, … layers."""
    random = np.random.default_rng(0)
    layers = {m: tuple(f"blocks.{i}" for i in range(4 + k)) for k, m in enumerate(models)}
    arrays = {}
    for a, b in itertools.combinations_with_replacement(models, 2):
        values = random.random((len(layers[a]), len(layers[b])))
        if a == b:
            values = (values + values.T) / 2
            np.fill_diagonal(values, 1.0)
        arrays[f"cka/{a}__{b}"] = Array(values, (f"layer[{a}]", f"layer[{b}]"))
    labels = {f"layer[{m}]": names for m, names in layers.items()}
    # The last layer is a head.
    labels |= {f"stem_and_blocks[{m}]": names[:-1] for m, names in layers.items()}
    return Result(models, arrays, {}, labels, scales={"cka": Scale("CKA", 0, 1)})


def by_loops(result: Result, a: str, b: str) -> tuple[float, float]:
    """The mean over all pairs of layers, and of each layer's best match, one cell at a time.

    Of a model with itself: of different layers, without its head.
    """
    pair = f"cka/{a}__{b}"
    not_batch_first = pair not in result.arrays
    values = result.arrays[f"cka/{b}__{a}" if not_batch_first else pair].values
    cells, best = [], []
    for i in range(len(result.labels[f"layer[{a}]"])):
        row = []
        for j in range(len(result.labels[f"layer[{b}]"])):
            if a == b and (i == j or len(values) - 1 in (i, j)):
                continue
            row.append(values[j, i] if not_batch_first else values[i, j])
        cells += [v for v in row if not np.isnan(v)]
        known = [v for v in row if not np.isnan(v)]
        if known:
            best.append(max(known))
    return sum(cells) / len(cells), sum(best) / len(best)


@pytest.mark.parametrize("missing", [False, True])
def test_summaries_are_means_over_layers(missing: bool):
    result = found("a", "b", "c")
    if missing:
        result.arrays["cka/a__b"].values[1] = np.nan
        result.arrays["cka/a__a"].values[1] = result.arrays["cka/a__a"].values[:, 1] = np.nan
    mean, best = summary_matrices(result)
    for (i, a), (j, b) in itertools.product(enumerate(result.models), repeat=2):
        assert (mean[i, j], best[i, j]) == pytest.approx(by_loops(result, a, b))
    np.testing.assert_allclose(mean, mean.T)


def test_a_pair_without_one_measured_cell_has_no_summary():
    result = found("a", "b", "c")
    result.arrays["cka/a__c"].values[:] = np.nan
    mean, best = summary_matrices(result)
    assert np.isnan([mean[0, 2], mean[2, 0], best[0, 2], best[2, 0]]).all()
    assert np.isfinite(mean).sum() == 7
    assert cka.draw(result)


@pytest.mark.parametrize("count", [3, 4, 10])
def test_more_than_two_models_are_first_shown_at_a_glance(count: int):
    models = [f"resnet18-medium-{i}" for i in range(count)]
    result = found(*models)
    figures = cka.draw(result)
    pairs = [f"cka-{a}__{b}" for a, b in itertools.combinations(models, 2)]
    assert list(figures) == ["cka-models", *pairs]
    figure = figures["cka-models"]
    assert_legible(figure)
    mean, best = summary_matrices(result)
    for axis, values in zip(figure.axes, (mean, best), strict=False):
        written = [text.get_text() for text in axis.texts]
        assert written == [f"{value:.2f}" for value in values.ravel()]


def test_the_diagonal_is_the_metric_of_a_model_with_itself():
    torch.manual_seed(0)
    models = [build("vit", classes=3, image_size=16, **TINY_VIT) for _ in range(3)]
    wrapped = [zoo.wrap(m, name=f"v{i}", image_size=16) for i, m in enumerate(models)]
    images = np.random.default_rng(0).integers(256, size=(8, 16, 16, 3), dtype=np.uint8)
    result = zoo.compare(wrapped, images, only=["cka"]).results["cka"]
    mean, _ = summary_matrices(result)
    for i, name in enumerate(result.models):
        assert mean[i, i] == pytest.approx(result.metrics[f"cka/{name}/off_diagonal_mean"])


def test_one_model_and_two_models_have_one_figure():
    assert list(cka.draw(found("a"))) == ["cka-a"]
    assert list(cka.draw(found("a", "b"))) == ["cka-a__b"]
    (figure,) = cka.draw(found("a", "b")).values()
    assert len(figure.axes) == 4  # a with a, b with b, a with b, and the colour bar


@pytest.mark.parametrize("models", [("a", "b"), ("a", "b", "c")])
def test_figures_are_coloured_on_the_results_scale(models):
    result = dataclasses.replace(found(*models), scales={"cka": Scale("CKA", -0.2, 0.9)})
    for figure in cka.draw(result).values():
        images = [image for axis in figure.axes for image in axis.get_images()]
        assert {image.get_clim() for image in images} == {(-0.2, 0.9)}


def test_maps_with_a_range_each_have_no_common_ends():
    assert Scale("CKA", 0, 1).ends == (0, 1)
    with pytest.raises(ValueError, match="a scale with two ends, got 0 and None"):
        _ = Scale("far", 0).ends
