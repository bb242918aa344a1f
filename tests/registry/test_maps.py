"""Maps of registered models: a folder, one run, and what is left out."""

import shutil
import time

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

from zoo.data.subsets import content_digest, load_subset
from zoo.errors import UserError
from zoo.files import read_json, write_json
from zoo.models.files import load_model, save_model
from zoo.registry.maps import map_registered, nearest_registered
from zoo.registry.register import register
from zoo.registry.resolve import resolve
from zoo.registry.runs import search_runs
from zoo.registry.store import COMPARE


@pytest.fixture
def models(store, make_folder, tmp_path):
    """Three models of three seeds, and one that differs from the first by a hair."""
    folders = [make_folder(seed) for seed in range(3)]
    model = load_model(folders[0])
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.mul_(1.001)
    save_model(tmp_path / "copy", model.module, model.spec)
    for folder in (*folders, tmp_path / "copy"):
        register(store, folder)


@pytest.fixture
def draw(store, models, tmp_path, test_split):
    return lambda **known: map_registered(store, tmp_path / "map", data=test_split, **known)


def test_a_map_is_a_folder_and_one_run(store, draw, tmp_path):
    told = []
    report, run_id = draw(command="zoo map", on_progress=lambda *_: told.append(time.time()))
    assert report == read_json(tmp_path / "map" / "map.json")
    nearest = {m["name"]: m["nearest"][0] for m in report["models"]}
    assert nearest["vit-small/1"]["name"] == "vit-small/4"
    assert nearest["vit-small/4"]["name"] == "vit-small/1"
    assert nearest["vit-small/1"]["cka"] > 0.999
    assert report["images"]["count"] == 12
    with xr.open_dataset(tmp_path / "map" / "map.nc", engine="h5netcdf") as data:
        assert data["cka"].sel(network="vit-small/1", network_b="vit-small/4") > 0.999
        assert data["family"].values.tolist() == ["vit"] * 4
    page = (tmp_path / "map" / "map.html").read_text()
    assert report["summary"] in page
    assert page.count("data:image/svg+xml") == 2
    (run,) = search_runs(store, COMPARE)
    assert run.info.run_id == run_id
    assert run.data.metrics["map/share"] == pytest.approx(report["share"])
    logged = {file.path for file in store.client.list_artifacts(run.info.run_id)}
    assert logged == {"map.html", "map.json", "map.nc", "figures"}
    note = run.data.tags["mlflow.note.content"]
    assert "| vit-small/1 | digits small | vit-small/4 | 1.000 |" in note
    assert (
        run.info.start_time < 1000 * max(told) < run.info.end_time
    )  # it lasts as long as the work
    assert draw()[1] == run.info.run_id
    assert draw(at="logits")[1] != run.info.run_id


def test_all_images_of_a_split_are_the_dataset_that_a_comparison_names(store, draw, test_split):
    """A map sees them in an order of its own."""
    own = load_subset(test_split).info.digest
    report, run_id = draw()
    assert report["images"]["digest"] == own
    (seen,) = store.client.get_run(run_id).inputs.dataset_inputs
    assert seen.dataset.digest == own[:36]
    some, _ = draw(count=8)
    assert some["images"]["digest"] != own


def test_what_has_no_fingerprint_is_left_out_by_name(store, draw):
    weights = resolve(store, "vit-small/2").artifacts.removeprefix("file://")
    file = f"{weights}/data/model.safetensors"
    save_file({key: value * 2 for key, value in load_file(file).items()}, file)
    report, _ = draw()
    assert [model["name"] for model in report["models"]] == [
        f"vit-small/{number}" for number in (1, 3, 4)
    ]
    assert len(report["left_out"]) == 1
    assert "vit-small/2" in report["left_out"][0]


def test_few_images_have_no_interval_and_fewer_no_map(store, models, draw, make_split, tmp_path):
    report, _ = draw(count=4)
    near = report["models"][0]["nearest"][0]
    assert (near["low"], near["high"]) == (None, None)
    model = resolve(store, "vit-small/1")
    make_split("four", 4)
    make_split("three", 3)
    found, *_ = nearest_registered(store, model, data=tmp_path / "four")
    assert {(each.low, each.high) for _, each in found} == {(None, None)}
    with pytest.raises(UserError, match="three: expected at least 4 images, got 3"):
        nearest_registered(store, model, data=tmp_path / "three")


def test_why_too_few_models_have_a_fingerprint_is_told(draw, test_split):
    np.save(test_split / "images.npy", np.zeros_like(np.load(test_split / "images.npy")))
    subset = load_subset(test_split)
    digest = content_digest(subset.images, subset.labels, subset.info.class_names)
    described = read_json(test_split / "subset.json")
    write_json(test_split / "subset.json", described | {"digest": digest})
    with pytest.raises(UserError, match="got 0; vit-small/1 at relative depth 1 is constant; vit"):
        draw()


def test_one_model_alone_and_a_folder_of_others_are_refused(draw, tmp_path):
    with pytest.raises(UserError, match="two or more models with a fingerprint, got 1"):
        draw(query="version=1")
    (tmp_path / "map").mkdir()
    (tmp_path / "map" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"mine\.txt"):
        draw()


def test_a_model_without_images_is_seen_on_those_of_the_others(store, make_folder, test_split):
    own = load_subset(test_split).info.digest
    register(store, make_folder(0, test_digest=""))
    register(store, make_folder(1, test_digest=own, test_count=12), test_folder=test_split)
    found, _, images = nearest_registered(store, resolve(store, "vit-small/1"))
    assert ([member.name for member, _ in found], len(images)) == (["vit-small/2"], 12)


def test_the_nearest_of_any_model(store, models, tmp_path, test_split):
    found, left_out, images = nearest_registered(
        store, resolve(store, "vit-small/1"), most=2, data=test_split
    )
    assert found[0][0].name == "vit-small/4"
    assert len(found) == 2
    assert (left_out, len(images)) == ([], 12)
    near = found[1][1]
    assert near.low < near.cka < near.high
    shutil.copytree(tmp_path / "copy", tmp_path / "elsewhere")
    folder = resolve(store, str(tmp_path / "elsewhere"))
    found, *_ = nearest_registered(store, folder, most=9, data=test_split)
    assert [member.name for member, _ in found[:2]] == ["vit-small/4", "vit-small/1"]
    assert len(found) == 4
    with pytest.raises(UserError, match="no other registered model has a fingerprint"):
        nearest_registered(store, resolve(store, "vit-small/1"), query="version=1", data=test_split)
