from urllib.parse import parse_qs, urlsplit

import pytest

from zoo.registry.references import Resolved
from zoo.registry.store import open_store
from zoo.registry.ui import comparison_link, list_links, side_by_side_link, version_link


@pytest.fixture
def models() -> list[Resolved]:
    return [
        Resolved(name, "version", name, label=name, version=3, run_id=run)
        for name, run in (("vit-small", "a1"), ("resnet18-small", "b2"))
    ]


def test_links_open_the_mode_that_shows_models(store, models):
    comparison = comparison_link(store, "c3")
    lists = list_links(store).values()
    for link in (*lists, comparison, side_by_side_link(store, models)):
        assert link.startswith("http://127.0.0.1:5000/#/")
        assert "workflowType=machine_learning" in link
    assert "/runs/c3?" in comparison


def test_training_runs_stand_side_by_side(store, models):
    link = side_by_side_link(store, models)
    query = parse_qs(urlsplit(link.replace("/#", "")).query)
    assert query["runs"] == ['["a1", "b2"]']
    assert query["experiments"] == [f'["{store.experiment_id("zoo-train")}"]']


def test_one_training_run_stands_beside_none(store, models):
    assert side_by_side_link(store, models[:1]) == ""


def test_another_address_can_be_given(store, models):
    models_page = list_links(store, base="http://host:80/zoo/")["models"]
    assert models_page.startswith("http://host:80/zoo/#/")
    assert version_link(store, models[0], "http://host") == (
        "http://host/#/models/vit-small/versions/3?workflowType=machine_learning"
    )


def test_a_server_is_its_own_address_without_credentials(root, models, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host:5000")
    link = version_link(open_store(root), models[0])
    assert link.startswith("https://host:5000/#/models/vit-small/versions/3")


def test_what_is_no_version_has_no_page(store):
    assert version_link(store, Resolved("./vit", "folder", "vit", label="vit")) == ""
