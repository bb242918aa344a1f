import csv
import io
import itertools
import math

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

import zoo.training.variants
from tests.conftest import TINY_VIT
from tests.test_imports import ROOT
from zoo.analyses.same_layer_cka import same_layers
from zoo.config import Params, Settings
from zoo.config.mapping import from_mapping
from zoo.errors import UserError
from zoo.experiments.data_effect import (
    OVER_IMAGES,
    OVER_SEEDS,
    Trained,
    apart,
    compare_with_full,
    metrics,
    pairings,
    verdicts,
)
from zoo.experiments.data_effect_report import as_csv, draw
from zoo.figures import style
from zoo.measures.depth import thirds
from zoo.measures.linear_cka import linear_cka
from zoo.measures.multiple_testing import holm
from zoo.models.preprocess import preprocess
from zoo.models.untrained import untrained_network
from zoo.study.axes import column, interval, variable
from zoo.study.results import Result

BLOCKS = ("blocks.0", "blocks.1")


@pytest.fixture
def network(make_model):
    """Make a network that stands for one trained on so many images, with weights of its own."""

    def make(subset, seed, images, *, arch="vit"):
        known = make_model(arch, f"{arch}-{subset}", seed=100 * images + seed, subset=subset)
        return Trained(arch, subset, seed, images, known)

    return make


def activations(model, images):
    """Return every block's output, taken by a plain hook."""
    seen = {}
    for name in BLOCKS:
        part = model.module.get_submodule(name)
        part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        model.module.eval()(preprocess(images, model.spec))
    return {name: out.flatten(1).numpy().astype(np.float64) for name, out in seen.items()}


def test_the_lines_are_linear_cka_of_equal_blocks(network, digit_images):
    images, _ = digit_images
    small, full = network("small", 0, 40), network("full", 0, 100)
    subset, untrained = compare_with_full([full, small], images)
    assert (subset.subset, subset.role, subset.images) == ("small", "subset", 40)
    assert (untrained.subset, untrained.role, untrained.images) == (
        "untrained",
        "untrained baseline",
        0,
    )
    a, b = activations(small.network, images), activations(full.network, images)
    u = activations(untrained_network(full.network.spec, 0), images)
    for i, layer in enumerate(subset.layers):
        if layer in BLOCKS:
            assert i in subset.blocks
            assert subset.cka[i] == pytest.approx(linear_cka(a[layer], b[layer]), abs=1e-6)
            assert untrained.cka[i] == pytest.approx(linear_cka(u[layer], b[layer]), abs=1e-6)
    assert len(subset.blocks) == 2
    # One pair has no range, but its images give an interval.
    assert subset.band == "95 % interval over images"
    assert (subset.low[list(subset.blocks)] < subset.cka[list(subset.blocks)]).all()
    assert subset.same_start
    two = compare_with_full([full, small], images, settings=Settings(batch_size=30))[0]
    assert two.band == OVER_IMAGES
    assert (two.low <= two.cka).all()
    assert (two.cka <= two.high).all()


def test_seeds_are_crossed_and_give_range_and_ceiling(network, digit_images):
    images, _ = digit_images
    trained = [network(s, seed, n) for s, n in (("small", 40), ("full", 100)) for seed in (0, 1)]
    subset, seeds, untrained = compare_with_full(trained, images)
    layer, i = "blocks.1", subset.layers.index("blocks.1")
    of = {(t.subset, t.seed): activations(t.network, images)[layer] for t in trained}
    crossed = [linear_cka(of["small", a], of["full", b]) for a, b in ((0, 1), (1, 0))]
    assert subset.cka[i] == pytest.approx(np.mean(crossed), abs=1e-6)
    assert subset.low[i] == pytest.approx(min(crossed), abs=1e-6)
    assert subset.high[i] == pytest.approx(max(crossed), abs=1e-6)
    position = subset.blocks.index(i)
    assert [draws[0, position] for draws in subset.block_draws] == pytest.approx(crossed, abs=1e-6)
    assert seeds.role == "seed baseline"
    assert seeds.cka[i] == pytest.approx(linear_cka(of["full", 0], of["full", 1]), abs=1e-6)
    assert (subset.pairs, seeds.pairs, untrained.pairs) == (2, 1, 2)
    assert subset.band == OVER_SEEDS
    assert not any(curve.same_start for curve in (subset, seeds, untrained))


def test_names_that_look_like_each_other_are_kept_apart(network, digit_images):
    images, _ = digit_images
    subsets = {"small": 20, "small-1": 40, "full": 100}
    trained = [network(s, seed, n) for s, n in subsets.items() for seed in (0, 1)]
    curves = compare_with_full(list(reversed(trained)), images)
    assert [c.subset for c in curves] == ["small", "small-1", "full", "untrained"]
    for curve in curves[:2]:
        alone = [t for t in trained if t.subset in (curve.subset, "full")]
        assert compare_with_full(alone, images)[0].cka == pytest.approx(curve.cka, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, unique=True),
       st.lists(st.integers(0, 5), min_size=1, unique=True))  # fmt: skip
def test_pairs_share_a_seed_only_where_there_is_no_other(seeds, full):
    pairs = pairings(seeds, full)
    possible = [(a, b) for a, b in itertools.product(seeds, full) if a != b]
    assert pairs == (possible or [(seeds[0], full[0])])


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 5), min_size=1), st.sets(st.integers(0, 5), min_size=1))
def test_no_network_stands_in_two_of_the_pairs_that_an_interval_is_over(seeds, full):
    pairs = pairings(sorted(seeds), sorted(full))
    found = apart(pairs)
    assert set(found) <= set(pairs)
    for side in zip(*found, strict=True):
        assert len(set(side)) == len(side)
    if seeds == full:
        assert len(found) == len(seeds)


def test_the_floor_is_where_training_starts(digits_folder, tmp_path, monkeypatch):
    class Started(Exception):  # noqa: N818
        pass

    started = {}

    def stop(module, spec, *_, **__):
        started.update(spec=spec, weights=module.state_dict())
        raise Started

    monkeypatch.setattr(zoo.training.variants, "train", stop)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"]["vit"]["kwargs"] = TINY_VIT
    with pytest.raises(Started):
        zoo.training.variants.train_variant(
            from_mapping(Params, params, "params"),
            zoo.config.Variant("vit", "small", 3),
            subsets=digits_folder, folder=tmp_path / "m", checkpoints=tmp_path / "c",
        )  # fmt: skip
    before = torch.random.get_rng_state()
    untrained = untrained_network(started["spec"], 3).module.state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(untrained[name], w) for name, w in started["weights"].items())


def test_a_layer_that_cannot_be_measured_is_named(network, digit_images):
    images, _ = digit_images
    small, full = network("small", 0, 40), network("full", 0, 100)
    with torch.no_grad():
        small.network.module.blocks[1].mlp.fc2.weight.fill_(math.nan)
    curves = compare_with_full([small, full], images)
    bad = curves[0].layers.index("blocks.1")
    assert math.isnan(curves[0].cka[bad])
    assert curves[0].notes[bad] == "vit small seed 0: blocks.1 is not finite"
    rows = list(csv.DictReader(io.StringIO(as_csv(curves))))
    row = next(r for r in rows if r["subset"] == "small" and r["layer"] == "blocks.1")
    assert row["cka"] == ""
    assert "not finite" in row["note"]
    found = metrics(curves)
    assert all(math.isfinite(value) for value in found.values())
    assert "data-effect/vit/small/high_blocks" not in found
    assert "data-effect/vit/small/low_blocks" in found
    assert "data-effect/vit/untrained/high_blocks" in found


def test_the_least_data_decides_the_claims_and_only_equal_subsets_are_compared(
    network, digit_images
):
    images, _ = digit_images
    curves = []
    for arch, sizes in (
        ("vit", {"small": 20, "medium": 40, "full": 100}),
        ("resnet18", {"small": 20, "full": 100}),
        ("vit-gap", {"medium": 40, "full": 100}),
    ):
        trained = [network(s, 0, n, arch=arch) for s, n in sizes.items()]
        curves += compare_with_full(list(reversed(trained)), images)
    found = {(v.claim.id, v.models): v for v in verdicts(curves, 60)}
    assert set(found) == {
        ("R-data-low", ("vit",)),
        ("R-data-low", ("vit-gap",)),
        ("R-data-vit", ("vit", "resnet18")),
    }
    scalars = metrics(curves)
    vit, cnn = (scalars[f"data-effect/{m}/small/low_minus_high"] for m in ("vit", "resnet18"))
    assert found["R-data-low", ("vit",)].value == pytest.approx(vit)
    assert found["R-data-vit", ("vit", "resnet18")].value == pytest.approx(vit - cnn)
    assert {v.n for v in found.values()} == {60}
    tests = list(found.values())
    assert [v.p_holm for v in tests] == holm([v.p for v in tests]).tolist()
    vit, cnn = (scalars[f"data-effect/{m}/untrained/low_minus_high"] for m in ("vit", "resnet18"))
    assert found["R-data-low", ("vit",)].before.value == pytest.approx(vit)
    assert found["R-data-vit", ("vit", "resnet18")].before.value == pytest.approx(vit - cnn)


def test_thirds_have_closed_values():
    values = np.array([9.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 9.0])
    found = thirds(values, blocks=range(1, 8))
    assert found == pytest.approx(
        {"mean": 0.6, "low_blocks": 0.85, "high_blocks": 0.35, "low_minus_high": 0.5}
    )
    assert thirds(np.array([0.2, 0.1]), blocks=[0, 1])["low_minus_high"] == pytest.approx(0.1)


def test_either_order_of_a_pair_is_read_and_other_layers_are_refused():
    def found(*names):
        networks, dims = ("layer", column([*"aabb"])), ("layer", "layer_b")
        axis = {"network": networks, "name": ("layer", column(names)),
                "role": ("layer", column(["block"] * 4))}  # fmt: skip
        other = {f"{key}_b": ("layer_b", values) for key, (_, values) in axis.items()}
        across = np.array([[0.9, 0.1], [0.2, 0.8]])
        cka = np.block([[np.eye(2), across], [across.T, np.eye(2)]])
        ends = interval(dims, cka - 0.1, cka + 0.1, kind="jackknife")
        return Result(xr.Dataset({"cka": variable(dims, cka), "cka_ci": ends}, axis | other))

    for pair in (("a", "b"), ("b", "a")):
        same = same_layers(found("p", "q", "p", "q"), *pair)
        assert same.cka.tolist() == [0.9, 0.8]
        assert (same.low.tolist(), same.high.tolist()) == (
            pytest.approx([0.8, 0.7]),
            pytest.approx([1.0, 0.9]),
        )
        assert (same.layers, same.blocks) == (("p", "q"), (0, 1))
    with pytest.raises(ValueError, match="expected the same layers in a and b"):
        same_layers(found("p", "q", "q", "p"), "a", "b")


def test_one_panel_an_architecture_and_one_line_a_subset(network, digit_images):
    images, _ = digit_images
    curves = []
    for arch in ("vit", "vit-gap"):
        sizes = {"small": 20, "medium": 40, "full": 100}
        trained = [network(s, 0, n, arch=arch) for s, n in sizes.items()]
        curves += compare_with_full(trained, images)
    figure = draw(curves, title="digits")
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["vit", "vit-gap"]
    for axis, colour in zip(figure.axes, style.COLOURS, strict=False):
        assert len(axis.lines) == 3
        # A model's panel has its colour, paler the fewer images.
        small, medium, untrained = (to_rgb(line.get_color()) for line in axis.lines)
        assert medium == pytest.approx(to_rgb(colour))
        assert small == pytest.approx([0.4 * part + 0.6 for part in medium], abs=1 / 255)
        assert untrained == to_rgb("0.5")
        assert axis.get_ylim()[1] == pytest.approx(1.02)
        assert axis.get_xticklabels()[0].get_text() == "stem"
    first = next(c for c in curves if c.model == "vit" and c.subset == "small")
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx(first.cka)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["small: 20 images", "medium: 40 images", "untrained"]
    assert "start from the same weights" in legend.get_title().get_text()
    names = {key.split("/")[1] for key in metrics(curves)}
    assert names == {"vit", "vit-gap"}


def test_what_cannot_be_compared_says_so(network, digit_images, make_model):
    images, _ = digit_images
    with pytest.raises(UserError, match="the networks of one architecture"):
        compare_with_full([network("a", 0, 1), network("b", 0, 2, arch="vit-gap")], images)
    foreign = network("full", 0, 10)
    spec = foreign.network.spec
    own = [
        Trained("net", "full", 0, 10, type(foreign.network)(
            "x", foreign.network.module, type(spec)(**(vars(spec) | {"arch": "Mine"}))
        ))
    ]  # fmt: skip
    with pytest.raises(UserError, match="two subsets or two seeds"):
        compare_with_full(own, images)
