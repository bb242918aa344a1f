"""Seeds are networks of the same pass; what is said over them is selected from the result."""

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from scipy import stats

from tests.report.conftest import TINY_VIT, digit_images, tiny_model
from zoo.analyses import load_analysis
from zoo.analyses.engine import compare_models
from zoo.comparison import Comparison, open_results
from zoo.config import Settings
from zoo.models.untrained import untrained_network
from zoo.registry.comparisons import _labels, _points
from zoo.study.axes import select
from zoo.study.results import TRAINED
from zoo.study.seeds import BETTER, over_seeds

ONLY = ("accuracy", "cka", "residuals", "probes", "localisation")
SETTINGS = Settings(batch_size=16, shown_images=2)


def seed(arch, name, number, **kwargs):
    base = tiny_model(arch, name, **kwargs)
    spec = dataclasses.replace(base.spec, seed=number, subset_digest="d" * 64)
    module = untrained_network(spec, number).module
    torch.manual_seed(100 + number)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return dataclasses.replace(base, module=module, spec=spec)


@pytest.fixture(scope="module")
def found():
    """Three seeds of a ViT, two of a small ResNet, each with its start."""
    vits = [seed("vit", "v", s, **TINY_VIT) for s in range(3)]
    cnns = [seed("resnet18", "c", s, channels=[8, 8, 8, 8]) for s in range(2)]
    images, labels = digit_images(64)
    siblings = [(0, vits[1]), (0, vits[2]), (1, cnns[1])]
    classes = vits[0].spec.class_names
    known = {"class_names": classes, "only": ONLY, "settings": SETTINGS}
    results = compare_models([vits[0], cnns[0]], images, labels, siblings=siblings, **known)
    alone = compare_models([vits[2]], images, labels, **known)
    return results, alone


def test_every_seed_and_its_start_are_networks_of_the_comparison(found):
    results, alone = found
    assert [n.name for n in results.networks] == [
        *("v", "c", "v untrained", "c untrained", "v seed 1", "v seed 2", "c seed 1"),
        *("v seed 1 untrained", "v seed 2 untrained", "c seed 1 untrained"),
    ]
    v, c = results.compared
    assert [n.name for n in results.seeds(v)] == ["v", "v seed 1", "v seed 2"]
    starts = [results.initial(n).name for n in results.seeds(c)]
    assert starts == ["c untrained", "c seed 1 untrained"]
    here, there = (each.results["cka"].data["cka"] for each in (results, alone))
    for name, own in (("v seed 2", "v"), ("v seed 2 untrained", "v untrained")):
        expected = select(there, own, own).values
        np.testing.assert_allclose(select(here, name, name).values, expected, rtol=1e-5, atol=1e-6)


def test_means_spread_and_intervals_over_seeds_are_students(found):
    results, _ = found
    rows = {(row.analysis, row.measure, row.of): row for row in over_seeds(results)}
    names = [n.name for n in results.seeds(results.compared[0])]
    row = rows["cka", "mean_off_diagonal", ("v",)]
    values = [results.results[row.analysis].metric(row.measure, name) for name in names]
    assert row.values == pytest.approx(values)
    ends = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (row.mean, row.low, row.high) == pytest.approx((np.mean(values), *ends))
    assert row.deviation == pytest.approx(np.std(values, ddof=1))
    assert rows["accuracy", BETTER, ("v", "c")].values == ()
    assert {of for _, _, of in rows} == {("v",), ("c",), ("v", "c")}


def test_a_count_that_all_seeds_share_is_a_whole_number_and_named_without_a_unit(found):
    results, _ = found
    row = next(row for row in Comparison(results).report()["seeds"] if row["measure"] == "tokens")
    assert (row["mean"], type(row["mean"])) == (16, int)
    assert row["label"] == "tokens of the last block"


def test_page_terminal_file_and_mlflow_tell_the_same(found, tmp_path):
    results, _ = found
    known = {"digest": "f" * 64, "models": [], "settings": {}, "images": {"count": 64}}
    models = [{"name": n.name, "metrics": {}, "steps": 0} for n in results.compared]
    comparison = Comparison(dataclasses.replace(results, provenance=known | {"models": models}))
    report = comparison.report()
    rows = {row["measure"]: row for row in report["numbers"] if row["of"] == "v"}
    accuracy = next(r for r in report["seeds"] if (r["measure"], r["of"]) == ("accuracy", ["v"]))
    assert rows["accuracy"]["value"] == (
        f"{100 * accuracy['mean']:.1f} % ± {100 * accuracy['deviation']:.1f} %"
    )
    assert "over 2 seeds" in report["summary"] or "No detectable" in report["summary"]
    labels = _labels(report)
    assert labels["v seed 1"] == "a.seed1"
    assert labels["v seed 1 untrained"] == "a.seed1.untrained"
    points = {p.key: p.value for p in _points(report, [])}
    assert points["accuracy/accuracy/a.seeds_mean"] == accuracy["mean"]
    assert points["accuracy/probability_more_accurate/a-b.seeds_mean"] == next(
        r["mean"] for r in report["seeds"] if r["measure"] == BETTER
    )
    claim = next(c for c in report["claims"] if c["id"] == "R-uniform")
    assert claim["seeds"][1] == 2
    assert points["claims/R-uniform/held_in_seeds"] == claim["seeds"][0] / 2
    comparison.tree.to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    again = open_results(tmp_path / "results.nc").report()
    assert again["seeds"] == report["seeds"]
    assert again["claims"] == report["claims"]


def test_figures_have_a_band_over_seeds(found):
    results, _ = found
    figure = Comparison(results).plot("probes")["probes-layers"]
    said = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert "v (3 seeds), mean over places" in said
    assert "c (2 seeds), mean over places" in said
    (line,) = [
        entry
        for entry in figure.axes[0].get_lines()
        if entry.get_label() == "c (2 seeds), mean over places"
    ]
    values = results.results["probes"].data["accuracy"].sel(pooling="mean over places")
    own = select(values, model="c", state=TRAINED).values.reshape(2, -1)
    assert line.get_ydata() == pytest.approx(own.mean(axis=0))


def test_calibration_and_robustness_are_measured_of_every_trained_seed():
    vits = [seed("vit", "v", s, **TINY_VIT) for s in range(2)]
    cnns = [seed("resnet18", "c", s, channels=[8, 8, 8, 8]) for s in range(2)]
    images, labels = digit_images(64)
    results = compare_models(
        [vits[0], cnns[0]], images, labels, class_names=vits[0].spec.class_names,
        siblings=[(0, vits[1]), (1, cnns[1])], only=("calibration", "robustness", "stitching"),
        settings=SETTINGS,
    )  # fmt: skip
    names = ["v", "c", "v seed 1", "c seed 1"]
    for analysis, measure in (("calibration", "error"), ("robustness", "kept_contrast")):
        result = results.results[analysis]
        assert [n for n in names if result.metric(measure, n) is not None] == names
        alone = compare_models(
            [dataclasses.replace(vits[1], name="x")], images, labels, only=(analysis,),
            class_names=vits[0].spec.class_names, settings=SETTINGS,
        ).results[analysis]  # fmt: skip
        assert alone.find(measure, "x").value == result.metric(measure, "v seed 1")
        figure = load_analysis(analysis).draw(result, ["v", "c"])[0].figure
        assert not any("seed" in text.get_text() for text in figure.findobj(Text))
    differences = [m for m in results.results["robustness"].metrics if m.network_b]
    assert {(m.network, m.network_b) for m in differences} == {
        (v, c) if names.index(v) < names.index(c) else (c, v)
        for v in ("v", "v seed 1")
        for c in ("c", "c seed 1")
    }
    found = {v.claim.id: v for v in Comparison(results).verdicts}
    assert found["N-dropped"].held is not None
    assert "stitched: of one seed of each model alone" in results.results["stitching"].notes
