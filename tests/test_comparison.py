"""A finished comparison: its identity, its words, its folder."""

import gc
import json

import numpy as np
import pytest

import zoo
from zoo.comparison import Comparison, comparison_digest, file_name
from zoo.config import Settings
from zoo.errors import UserError

ONLY = ["accuracy", "cka", "probes", "receptive-field"]


@pytest.fixture(scope="module")
def compared(digits_folder):
    import torch

    from tests.conftest import TINY_VIT
    from zoo.data.subsets import load_subset
    from zoo.models.build import build

    torch.manual_seed(0)
    nets = [build("vit", classes=10, image_size=16, **TINY_VIT) for _ in range(2)]
    names = [str(i) for i in range(10)]
    models = [
        zoo.wrap(net, name=name, image_size=16, class_names=names)
        for net, name in zip(nets, ("a", "<b>"), strict=True)
    ]
    test = load_subset(digits_folder / "test")
    images, labels = np.array(test.images[:80]), np.array(test.labels[:80])
    return zoo.compare(models, images, labels, only=ONLY, settings=Settings(batch_size=20))


def test_the_python_way_needs_no_pipeline_and_no_server(compared):
    assert isinstance(compared, Comparison)
    assert set(compared.results) == set(ONLY)
    assert 0 < compared.metrics["cka/a__<b>/mean"] <= 1
    assert len(compared.digest) == 64


def test_the_folder_holds_page_report_arrays_and_figures(compared, tmp_path):
    report = compared.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    for entry in report["analyses"]:
        result = compared.results[entry["name"]]
        with np.load(tmp_path / "out" / entry["arrays"], allow_pickle=False) as arrays:
            assert set(arrays) == set(result.arrays) == set(entry["dims"])
        for name in entry["figures"]:
            assert (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 1000
            assert (tmp_path / "out" / "figures" / f"{name}.svg").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_it_is_saved_under_a_plain_name_and_never_over_foreign_files(
    compared, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    compared.save("report")
    report = compared.save("report")
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == report
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(UserError, match="thesis, which zoo did not write"):
        compared.save("absent/../thesis")
    with pytest.raises(UserError, match="no home folder is known for ~nosuch"):
        compared.save("~nosuch/report")
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_a_number_stands_beside_the_images_it_was_measured_on(compared):
    images = {entry["name"]: entry["images"] for entry in compared.report()["analyses"]}
    assert images["cka"] == 80
    assert images["probes"] == 40
    assert images["receptive-field"] == 32
    n = {claim["id"]: claim["n"] for claim in compared.report()["claims"]}
    assert n["R-uniform"] == 80
    assert n["R-token-cnn"] == 40


def test_a_notebook_shows_the_page(compared):
    assert compared._repr_html_().startswith("<iframe srcdoc=")


def test_the_identity_is_that_of_everything_that_decides_the_numbers():
    base = {
        "models": [("a", "1"), ("b", "2")],
        "images": "i",
        "count": 10,
        "analyses": ["cka"],
        "settings": Settings(),
        "siblings": [],
    }
    changes = [
        {},
        {"models": [("b", "2"), ("a", "1")]},
        {"images": "j"},
        {"count": 11},
        {"analyses": ["cka", "accuracy"]},
        {"settings": Settings(pool="gap")},
        {"siblings": ["3"]},
    ]
    assert len({comparison_digest(**(base | change)) for change in changes}) == len(changes)
    assert comparison_digest(**base) == comparison_digest(**base)


def test_another_torch_is_another_identity(monkeypatch):
    asked = [("a", "1")], "i", 10, ["cka"], Settings()
    before = comparison_digest(*asked)
    monkeypatch.setattr("zoo.comparison.version", lambda name: "0")
    assert comparison_digest(*asked) != before


def test_labels_beyond_the_classes_are_named(make_model):
    images = np.zeros((8, 16, 16, 3), np.uint8)
    with pytest.raises(UserError, match="class indices from 0 to 9, got 0 to 10"):
        zoo.compare([make_model("vit", "v")], images, [*range(7), 10], only=["cka"])


def test_figure_names_are_file_names():
    assert file_name("cka-a v1__b/2") == "cka-a-v1__b-2"
    assert "/" not in file_name("../../a__b")


def test_saving_leaves_garbage_collection_as_it_was(compared, tmp_path):
    before = gc.get_freeze_count()
    compared.save(tmp_path / "out")
    assert gc.get_freeze_count() == before
    assert gc.isenabled()
