"""CKA's figures: all models at a glance, then every pair."""

import itertools

import numpy as np
import pytest
import xarray as xr

from tests.figures.test_style import assert_legible
from zoo.analyses import cka
from zoo.study.axes import Scale, select, variable
from zoo.study.results import Metric, Result


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
    data = xr.Dataset({"cka": variable(("layer", "layer_b"), values, scale=scale)}, axes)
    metrics = [Metric("mean_off_diagonal", 0.3, models[0])]
    for i, (a, b) in enumerate(itertools.combinations(models, 2)):
        metrics.append(Metric("mean_all_pairs", 0.1 + i / 100, a, b))
        metrics.append(Metric("mean_best_match", 0.5 + i / 100, a, b, pair="directed"))
        metrics.append(Metric("mean_best_match", 0.4 + i / 100, b, a, pair="directed"))
    return Result(data, metrics=tuple(metrics))


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
    mean, best = ({t.get_position(): t.get_text() for t in axis.texts} for axis in figure.axes[:2])
    assert mean[0, 0] == "0.30"
    assert (1, 1) not in mean
    assert not any(i == j for i, j in best)
    pairs = list(itertools.combinations(range(count), 2))
    for k, (i, j) in enumerate(pairs):
        assert mean[i, j] == mean[j, i] == f"{0.1 + k / 100:.2f}"
        # Rows are the models whose layers look for a match.
        assert (best[j, i], best[i, j]) == (f"{0.5 + k / 100:.2f}", f"{0.4 + k / 100:.2f}")


def test_one_model_and_two_models_have_one_figure():
    assert [drawing.of for drawing in cka.draw(found("a"), ["a"])] == [("a",)]
    (drawing,) = cka.draw(found("a", "b"), ["a", "b"])
    assert drawing.of == ("a", "b")
    assert len(drawing.figure.axes) == 4  # a with a, b with b, a with b, and the colour bar
    cka_of = drawing.figure.axes[2]
    assert cka_of.get_title(loc="left") == "rows: a\ncolumns: b"
    (image,) = cka_of.get_images()
    np.testing.assert_array_equal(image.get_array(), select(found("a", "b").data["cka"], "a", "b"))
    layers = [[label.get_text() for label in labels]
              for labels in (cka_of.get_yticklabels(), cka_of.get_xticklabels())]  # fmt: skip
    assert layers == [[f"blocks.{i}" for i in range(count)] for count in (4, 5)]


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
