"""A second set of images: the maps on it, and how far they agree with the first's."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import zoo
from zoo.analyses.image_sets import agreement
from zoo.comparison import open_results
from zoo.config import Settings
from zoo.errors import UserError
from zoo.measures.replicates import Replicates
from zoo.measures.table import MEASURES
from zoo.study.axes import column, select
from zoo.study.replicates import replicated

ONLY = ["cka", "similarity"]
SETTINGS = Settings(batch_size=30)


@pytest.fixture(scope="module")
def compared(make_model, digit_images):
    models = [make_model("vit"), make_model("resnet18", seed=1)]
    images = digit_images[0]
    sets = images[:30], images[30:]
    both = zoo.compare(models, sets[0], only=ONLY, settings=SETTINGS, data=[sets[1], sets[0]])
    alone = zoo.compare(models, sets[1], only=ONLY, settings=SETTINGS)
    return both, alone


def test_the_map_on_a_second_set_is_that_of_a_comparison_on_it(compared):
    both, alone = compared
    assert both["cka"]["image_set"].values.tolist() == ["images 2", "images 3"]
    for analysis, measures in (("cka", ("cka", "cka_deconfounded")), ("similarity", MEASURES)):
        for measure in measures:
            here = both[analysis][f"{measure}_other"].sel(image_set="images 2")
            there = select(alone[analysis][measure], "vit-0", "resnet18-1").values
            np.testing.assert_allclose(select(here, "vit-0", "resnet18-1").values, there, rtol=1e-5)
            again = both[analysis][f"{measure}_other"].sel(image_set="images 3")
            first = select(both[analysis][measure], "vit-0", "resnet18-1").values
            np.testing.assert_allclose(
                select(again, "vit-0", "resnet18-1").values, first, rtol=1e-5
            )


def test_metrics_are_those_of_the_set_that_agrees_least(compared):
    both, alone = compared
    first = select(both["cka"]["cka"], "vit-0", "resnet18-1").values
    second = select(alone["cka"]["cka"], "vit-0", "resnet18-1").values
    found = {
        m: both.results.results["cka"].find(f"cka_set_{m}", "vit-0", "resnet18-1")
        for m in ("agreement", "change", "same_match")
    }
    r = scipy.stats.pearsonr(first.ravel(), second.ravel()).statistic
    assert found["agreement"].value == pytest.approx(r, rel=1e-4)
    assert found["agreement"].low < r < found["agreement"].high
    assert found["change"].value == pytest.approx(second.mean() - first.mean(), rel=1e-3)
    same = [*(first.argmax(1) == second.argmax(1)), *(first.argmax(0) == second.argmax(0))]
    assert found["same_match"].value == pytest.approx(np.mean(same))
    notes = both.results.results["cka"].notes
    assert any(note.startswith("vit-0 and resnet18-1 on images 2: the mean CKA") for note in notes)
    # The third set is the first one again.
    (again,) = [n for n in notes if "on images 3: the mean CKA" in n]
    assert "correlation is 1.00; 100 % of layers keep" in again


def test_the_page_the_report_and_the_file_hold_it(compared, tmp_path):
    report = compared[0].save(tmp_path / "report")
    figures = next(a for a in report["analyses"] if a["name"] == "cka")["figures"]
    assert "cka-images-{}" in {figure["kind"] for figure in figures}
    assert "on images 2: the mean CKA" in (tmp_path / "report/report.html").read_text()
    assert [of["name"] for of in report["other_images"]] == ["images 2", "images 3"]
    again = open_results(tmp_path / "report")
    xr.testing.assert_equal(again["cka"]["cka_other"], compared[0]["cka"]["cka_other"])


def test_what_is_no_second_set_is_named(make_model, digit_images):
    images = digit_images[0][:12]
    for other, message in (
        (images[:3], "images 2: expected at least 4 images, got 3"),
        (images[0], r"images 2: expected \(n, height, width, 3\) uint8"),
    ):
        with pytest.raises(UserError, match=message):
            zoo.compare([make_model("vit")], images, data=[other], only="cka")


def made(seed, base, noise, groups=32):
    """A map of one network's layers with another's, whose images scatter it by so much."""
    random = np.random.default_rng(seed)
    shape, scale = base.shape, noise * np.sqrt(groups / (groups - 1)) / np.sqrt(groups - 1)
    whole = base + noise * random.normal(size=shape)
    without = whole + scale * random.normal(size=(groups, *shape)) / np.sqrt(groups) * np.sqrt(
        groups - 1
    )
    kept = Replicates(whole, without, np.full(groups, (groups - 1) / groups), groups - 1)
    dims = ("layer", "layer_b")
    return xr.Dataset(
        replicated("cka", dims, kept),
        {
            "network": ("layer", column(["a"] * shape[0])),
            "network_b": ("layer_b", column(["b"] * shape[1])),
        },
    )


def test_the_interval_of_the_change_holds_the_truth():
    random = np.random.default_rng(0)
    base = random.uniform(0.2, 0.9, size=(6, 6))
    held = []
    for trial in range(100):
        pair = (made((trial, k), base + 0.05 * k, 0.05) for k in range(2))
        held.append(agreement(*pair, "cka", "a", "b").moved)
    assert np.mean([low <= 0.05 <= high for _, low, high in held]) >= 0.88
    assert np.mean([low > 0 for _, low, _ in held]) > 0.9  # it is four standard errors
