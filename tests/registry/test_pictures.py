"""Pictures lie at the same place in every run, and in MLflow's image grid by name and step."""

import re

import numpy as np
import pytest
from PIL import Image

from zoo.registry.history import History
from zoo.registry.pictures import draw_learning_curve, log_figures, log_learning_curve
from zoo.registry.register import register
from zoo.registry.resolve import resolve
from zoo.registry.store import TRAIN

HISTORY = History(
    tuple(
        {"epoch": e, "step": 2 * e, "train/loss": 2 / e, "validation/loss": 3 / e,
         "train/accuracy": e / 4, "validation/accuracy": e / 5}
        for e in (1.0, 2.0, 3.0)
    )
)  # fmt: skip


@pytest.fixture
def run(store):
    return store.client.create_run(store.experiment_id(TRAIN))


def image_names(store, run) -> list[str]:
    """Return the names of a run's images without what tells them apart, as MLflow writes them."""
    paths = [entry.path for entry in store.client.list_artifacts(run.info.run_id, "images")]
    return sorted(re.sub(r"timestamp\+\d{13}\+[0-9a-f-]{36}", "T+U", path) for path in paths)


def images(store, run_id: str) -> set[tuple[str, str]]:
    """Return (name, step) of the images that MLflow's grid shows of a run."""
    paths = [entry.path for entry in store.client.list_artifacts(run_id, "images")]
    parts = [path.removeprefix("images/").split("+") for path in paths if path.endswith(".png")]
    return {(name, step) for name, _, step, *_ in parts}


def test_a_curve_shows_loss_and_accuracy_of_both_parts():
    left, right = draw_learning_curve(HISTORY, "vit-small").axes
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == (
        "epoch",
        "loss",
        "accuracy",
    )
    np.testing.assert_allclose(
        [line.get_ydata() for line in left.lines], [[2, 1, 2 / 3], [3, 1.5, 1]]
    )
    assert [line.get_label() for line in right.lines] == ["training", "validation"]


def test_a_registered_run_has_its_curve_and_its_card(store, make_folder):
    register(store, make_folder())
    run = store.client.get_run(resolve(store, "vit-small").run_id)
    files = [entry.path for entry in store.client.list_artifacts(run.info.run_id, "figures")]
    assert files == ["figures/learning-curve.png"]
    assert images(store, run.info.run_id) == {("learning-curve", "2")}
    assert run.data.tags["mlflow.note.content"].startswith("vit-small, seed 0: ")


def test_a_picture_has_the_name_and_the_tag_that_mlflow_gives_and_is_there_once(store, run):
    for _ in range(2):
        log_learning_curve(store, run, HISTORY, "vit-small")
    theirs = store.client.create_run(store.experiment_id(TRAIN))
    store.client.log_image(
        theirs.info.run_id, np.zeros((9, 9, 3), np.uint8), key="learning-curve", step=3
    )
    assert image_names(store, run) == image_names(store, theirs)
    assert len(image_names(store, run)) == 2  # the picture and its preview
    tags = [store.client.get_run(r.info.run_id).data.tags for r in (run, theirs)]
    assert len({t["mlflow.loggedImages"] for t in tags}) == 1


def test_registering_what_was_removed_logs_no_picture_twice(store, make_folder):
    folder = make_folder()
    for _ in range(2):
        entry = register(store, folder)
        run = store.client.get_run(resolve(store, "vit-small").run_id)
        assert len(image_names(store, run)) == 2
        store.client.delete_model_version(entry.name, str(entry.version))


def test_without_a_history_there_is_no_curve(store, run):
    log_learning_curve(store, run, History(), "vit-small")
    assert not store.client.list_artifacts(run.info.run_id)


def test_each_figure_of_an_analysis_is_a_step(store, run, tmp_path):
    (tmp_path / "figures").mkdir()
    for name in ("cka-a__b", "cka-a__c", "accuracy-by-class"):
        Image.new("RGB", (8, 8)).save(tmp_path / "figures" / f"{name}.png")
    figures = {"cka": ["cka-a__b", "cka-a__c", "gone"], "accuracy": ["accuracy-by-class"]}
    analyses = [
        {"name": name, "figures": [{"file": file} for file in files]}
        for name, files in figures.items()
    ]
    log_figures(store, run, tmp_path, {"analyses": analyses})
    assert images(store, run.info.run_id) == {("cka", "1"), ("cka", "2")}
