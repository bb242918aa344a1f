"""Measures between layers: the same numbers as by hand, with baselines and named gaps."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
import torch

from tests.labelled import ends as interval
from tests.labelled import values as cells
from zoo.analyses import similarity
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.measures.layers import LayerSimilarities
from zoo.measures.table import MEASURES, DegenerateError
from zoo.models.preprocess import preprocess
from zoo.study import spatial_layout


def run(models, images, **settings):
    return compare_models(
        models,
        images,
        only=["similarity"],
        settings=Settings(references=False, **({"batch_size": 16} | settings)),
    )


@pytest.fixture
def pair(make_model):
    return [make_model("vit", "a"), make_model("vit-gap", "b", seed=1)]


def features(model, images):
    """Mean patch token of stem and blocks, and the logits, by a plain forward pass."""
    net, prefix = model.module.eval(), model.module.num_prefix_tokens
    with torch.no_grad():
        x = preprocess(images, model.spec)
        tokens = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(x))))
        outputs = [tokens]
        for block in net.blocks:
            outputs.append(block(outputs[-1]))
        found = [t[:, prefix:].mean(dim=1).numpy() for t in outputs]
        return [*found, net(x).numpy()]


def test_every_cell_is_the_measure_of_the_two_layers_features(pair, digit_images):
    images = digit_images[0]
    result = run(pair, images).results["similarity"]
    a, b = (features(model, images) for model in pair)
    for name, measure in MEASURES.items():
        values = cells(result, name, "a", "b")
        assert values.shape == (4, 4)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                try:
                    expected = measure(x, y)
                except DegenerateError:
                    expected = np.nan
                assert values[i, j] == pytest.approx(expected, abs=1e-4, nan_ok=True)
        ends = interval(result, name, "a", "b")
        assert np.array(ends)[:, 1, 2] == pytest.approx(measure.interval(a[1], b[2]), abs=1e-3)
        assert ((ends[0] <= values) & (values <= ends[1]))[np.isfinite(values)].all()
        best = np.mean([row[np.isfinite(row)].max() for row in values])
        assert result.metric(f"{name}_mean_best_match", "a", "b") == pytest.approx(best)
        assert result.metric(f"{name}_permuted_images", "a", "b") < best


def test_each_directions_best_matches_and_p_are_its_own():
    cells = np.array([[0.9, 0.1], [0.8, 0.2]])
    found = LayerSimilarities(cells, np.zeros((2, 2, 2)), 0.3, (0.01, 0.2), [])
    metrics = {
        (m.measure, m.network, m.network_b): m.value
        for m in similarity._summary("rsa", found, "a", "b")
    }
    assert metrics == {
        ("rsa_mean_best_match", "a", "b"): pytest.approx((0.9 + 0.8) / 2),
        ("rsa_mean_best_match", "b", "a"): pytest.approx((0.9 + 0.2) / 2),
        ("rsa_permuted_images", "a", "b"): 0.3,
        ("rsa_best_match_p", "a", "b"): 0.01,
        ("rsa_best_match_p", "b", "a"): 0.2,
    }


def test_batches_change_nothing(pair, digit_images):
    images = digit_images[0]
    small, large = (run(pair, images, batch_size=n).results["similarity"] for n in (7, 60))
    for name, variable in small.data.data_vars.items():
        assert np.allclose(variable, large.data[name], atol=1e-4, equal_nan=True)


def test_the_floor_shuffles_the_images_of_one_side():
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 4))
    found = similarity.compare_layers([MEASURES["rbf_cka"]], [x], [x, x[:, :2]])["rbf_cka"]
    assert found.problems == []
    assert found.values[0, 0] == pytest.approx(1)
    assert found.interval[:, 0, 0] == pytest.approx([1, 1])
    assert found.values[0, 0] > found.interval[1, 0, 1] > found.values[0, 1]
    assert abs(found.permuted) < 0.1


def test_degenerate_layers_and_pairs_are_left_out_and_named(pair, digit_images):
    with torch.no_grad():
        pair[0].module.blocks[1].register_forward_hook(lambda m, a, out: out * 0 + 1)
    result = run(pair, digit_images[0][:6]).results["similarity"]
    assert np.isnan(cells(result, "rbf_cka", "a", "b")[2]).all()
    assert np.isfinite(cells(result, "rbf_cka", "a", "b")[[0, 1]]).all()
    assert "a: blocks.1 is constant (RBF-kernel CKA, SVCCA, PWCCA, Procrustes, RSA)" in result.notes
    few = [note for note in result.notes if "directions need more than" in note]
    assert few[0].startswith("a: stem ")
    assert few[0].endswith("(SVCCA, PWCCA)")
    # Six images have no ten neighbours: no number at all, rather than a wrong one.
    assert np.isnan(cells(result, "mutual_knn", "a", "b")).all()
    assert result.metric("mutual_knn_mean_best_match", "a", "b") is None
    assert all(np.isfinite(metric.value) for metric in result.metrics)
    similarity.draw(result, ["a", "b"])[0].figure.canvas.draw()


def test_at_most_the_stated_number_of_images_is_used_and_noted(pair, digit_images, monkeypatch):
    monkeypatch.setattr(similarity, "MAX_IMAGES", 40)
    images = digit_images[0]
    result = run(pair, images).results["similarity"]
    assert "measured on 40 of 60 images, drawn at random" in result.notes
    chosen = spatial_layout.choose_images(60, 40, seed=0)
    x, y = (features(model, images[chosen])[1] for model in pair)
    expected = MEASURES["procrustes"](x, y)
    assert cells(result, "procrustes", "a", "b")[1, 1] == pytest.approx(expected, abs=1e-4)


def test_another_seed_of_a_model_is_its_ceiling(pair, make_model, digit_images):
    images = digit_images[0]
    seed = make_model("vit", "a", seed=7)
    found = compare_models(
        pair, images, only=["similarity"], siblings=[(0, seed)], settings=Settings(batch_size=16)
    )
    result = found.results["similarity"]
    x, y = features(pair[0], images), features(seed, images)
    for name in ("procrustes", "mutual_knn"):
        expected = np.mean([MEASURES[name](a, b) for a, b in zip(x, y, strict=True)])
        same = result.metric(f"{name}_same_layer", "a", "a seed 7")
        assert same == pytest.approx(expected, abs=1e-4)
    with torch.no_grad():
        seed.module.head.weight.zero_()
    noted = compare_models(pair, images, only=["similarity"], siblings=[(0, seed)])
    seen = noted.results["similarity"].notes
    assert "a seed 7: head is constant (all measures)" in seen


def test_one_model_alone_does_not_apply(pair, digit_images):
    assert "only one" in run(pair[:1], digit_images[0]).not_applicable["similarity"]


def test_the_figure_has_a_panel_a_measure_on_its_own_scale(pair, digit_images):
    result = run(pair, digit_images[0]).results["similarity"]
    figure = similarity.draw(result, ["a", "b"])[0].figure
    panels = [axis for axis in figure.axes if axis.get_title(loc="left")]
    assert len(panels) == len(MEASURES)
    for panel, measure in zip(panels, MEASURES.values(), strict=True):
        assert panel.get_title(loc="left").startswith(f"{measure.title}\nminus its baseline of ")
        (image,) = panel.get_images()
        baseline = result.metric(f"{measure.name}_permuted_images", "a", "b")
        above = cells(result, measure.name, "a", "b") - baseline
        np.testing.assert_allclose(image.get_array(), above)
        low, high = image.get_clim()
        assert low == pytest.approx(min(0, above.min()))
        assert high == pytest.approx(max(similarity.LEAST_COLOUR, above.max()))


@pytest.mark.parametrize("count", [6, 7, 9])
def test_every_panel_lies_on_the_page_and_beside_the_others(pair, digit_images, monkeypatch, count):
    for i in range(len(MEASURES), count):
        more = dataclasses.replace(MEASURES["rsa"], name=f"more{i}", title=f"More {i}")
        monkeypatch.setitem(MEASURES, more.name, more)
    result = run(pair, digit_images[0]).results["similarity"]
    figure = similarity.draw(result, ["a", "b"])[0].figure
    panels = [axis for axis in figure.axes if axis.get_title(loc="left")]
    assert len(panels) == count
    boxes = [axis.get_position() for axis in panels]
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    # The layers of the second model are named under the lowest panel of each column.
    named = [axis for axis in panels if axis.get_xlabel()]
    assert named == panels[-similarity.COLUMNS :]
