"""CKA's figures: all models at a glance, then every pair."""

import itertools

import numpy as np
import pytest
import torch
import xarray as xr

import zoo
from tests.conftest import TINY_VIT
from tests.figures.test_style import assert_legible
from zoo.analyses import cka
from zoo.analyses.cka_figures import summary_matrices
from zoo.models.build import build
from zoo.study.axes import Scale, variable
from zoo.study.results import Result


def found(*models: str, scale: Scale = cka.SCALE) -> Result:
    """Random similarities of four, five, … layers; the last layer is a head."""
    rows = [(m, f"blocks.{i}", 3 + k == i) for k, m in enumerate(models) for i in range(4 + k)]
    values = np.random.default_rng(0).random((len(rows), len(rows)))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 1.0)
    names, layers = [name for name, _, _ in rows], [layer for _, layer, _ in rows]
    roles = ["head" if head else "block" for _, _, head in rows]
    columns = {"network": names, "name": layers, "role": roles}
    axes = {k + end: ("layer" + end, v) for k, v in columns.items() for end in ("", "_b")}
    return Result(xr.Dataset({"cka": variable(("layer", "layer_b"), values, scale=scale)}, axes))


def lose(result: Result, a: str, b: str, row: int | None = None) -> None:
    """Make a pair's cells, or those of one of its rows, missing."""
    of = result.data["cka"]
    rows = np.flatnonzero(of["network"].values == a)
    rows = rows if row is None else rows[[row]]
    columns = np.flatnonzero(of["network_b"].values == b)
    of.values[np.ix_(rows, columns)] = np.nan
    of.values[np.ix_(columns, rows)] = np.nan


def by_loops(result: Result, a: str, b: str) -> tuple[float, float]:
    """The mean over all pairs of layers, and of each layer's best match, one cell at a time.

    Of a model with itself: of different layers, without its head.
    """
    cells, best = [], []
    table = result.data["cka"]
    for i in np.flatnonzero(table["network"].values == a):
        row = []
        for j in np.flatnonzero(table["network_b"].values == b):
            heads = "head" in (table["role"].values[i], table["role_b"].values[j])
            if a == b and (i == j or heads):
                continue
            row.append(float(table.values[i, j]))
        known = [v for v in row if not np.isnan(v)]
        cells += known
        if known:
            best.append(max(known))
    return sum(cells) / len(cells), sum(best) / len(best)


@pytest.mark.parametrize("missing", [False, True])
def test_summaries_are_means_over_layers(missing: bool):
    result = found("a", "b", "c")
    if missing:
        lose(result, "a", "b", row=1)
        lose(result, "a", "a", row=1)
    mean, best = summary_matrices(result, ["a", "b", "c"])
    for (i, a), (j, b) in itertools.product(enumerate("abc"), repeat=2):
        assert (mean[i, j], best[i, j]) == pytest.approx(by_loops(result, a, b))
    np.testing.assert_allclose(mean, mean.T)


def test_a_pair_without_one_measured_cell_has_no_summary():
    result = found("a", "b", "c")
    lose(result, "a", "c")
    mean, best = summary_matrices(result, ["a", "b", "c"])
    assert np.isnan([mean[0, 2], mean[2, 0], best[0, 2], best[2, 0]]).all()
    assert np.isfinite(mean).sum() == 7
    assert cka.draw(result, ["a", "b", "c"])


@pytest.mark.parametrize("count", [3, 4, 10])
def test_more_than_two_models_are_first_shown_at_a_glance(count: int):
    models = [f"resnet18-medium-{i}" for i in range(count)]
    result = found(*models)
    glance, *pairs = cka.draw(result, models)
    assert (glance.kind, glance.of) == ("cka-models", ())
    assert [(pair.kind, pair.of) for pair in pairs] == [
        ("cka-{}", pair) for pair in itertools.combinations(models, 2)
    ]
    figure = glance.figure
    assert_legible(figure)
    mean, best = summary_matrices(result, models)
    for axis, values in zip(figure.axes, (mean, best), strict=False):
        written = [text.get_text() for text in axis.texts]
        assert written == [f"{value:.2f}" for value in values.ravel()]


def test_the_diagonal_is_the_metric_of_a_model_with_itself():
    torch.manual_seed(0)
    models = [build("vit", classes=3, image_size=16, **TINY_VIT) for _ in range(3)]
    wrapped = [zoo.wrap(m, name=f"v{i}", image_size=16) for i, m in enumerate(models)]
    images = np.random.default_rng(0).integers(256, size=(8, 16, 16, 3), dtype=np.uint8)
    result = zoo.compare(wrapped, images, only=["cka"]).results.results["cka"]
    names = ["v0", "v1", "v2"]
    mean, _ = summary_matrices(result, names)
    for i, name in enumerate(names):
        assert mean[i, i] == pytest.approx(result.metric("mean_off_diagonal", name))


def test_one_model_and_two_models_have_one_figure():
    assert [drawing.of for drawing in cka.draw(found("a"), ["a"])] == [("a",)]
    (drawing,) = cka.draw(found("a", "b"), ["a", "b"])
    assert drawing.of == ("a", "b")
    assert len(drawing.figure.axes) == 4  # a with a, b with b, a with b, and the colour bar


@pytest.mark.parametrize("models", [("a", "b"), ("a", "b", "c")])
def test_figures_are_coloured_on_the_results_scale(models):
    result = found(*models, scale=Scale("CKA", -0.2, 0.9))
    for drawing in cka.draw(result, models):
        images = [image for axis in drawing.figure.axes for image in axis.get_images()]
        assert {image.get_clim() for image in images} == {(-0.2, 0.9)}


def test_maps_with_a_range_each_have_no_common_ends():
    assert Scale("CKA", 0, 1).ends == (0, 1)
    with pytest.raises(ValueError, match="a scale with two ends, got 0 and None"):
        _ = Scale("far", 0).ends
