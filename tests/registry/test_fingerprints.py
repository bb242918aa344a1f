"""Fingerprints of registered models: made once, found again, and never trusted unread."""

import shutil

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from zoo.errors import UserError
from zoo.registry import fingerprints
from zoo.registry.artifacts import local_folder
from zoo.registry.fingerprints import (
    as_model,
    chosen_versions,
    keep_all,
    keep_fingerprint,
    named_images,
)
from zoo.registry.register import register
from zoo.registry.resolve import resolve


@pytest.fixture
def models(store, make_folder):
    for seed in (0, 1):
        register(store, make_folder(seed))
    return [as_model(row) for row in chosen_versions(store, "")]


@pytest.fixture
def images(store, models, test_split):
    return named_images(store, models, test_split, None)


@pytest.fixture
def count(monkeypatch):
    """Count how often a network runs."""
    ran = []
    whole = fingerprints.fingerprint

    def fingerprint(model, *given, **known):
        ran.append(model.name)
        return whole(model, *given, **known)

    monkeypatch.setattr(fingerprints, "fingerprint", fingerprint)
    return ran


def test_each_is_made_once(store, models, images, count):
    first = list(keep_all(store, models, images, device="cpu"))
    again = list(keep_all(store, models, images, device="cpu"))
    assert [kept.made for kept in first + again] == [True, True, False, False]
    assert [kept.path for kept in first] == [kept.path for kept in again]
    assert len(count) == 2
    other = images.first(8)
    assert keep_fingerprint(store, models[0], other, device="cpu").path != first[0].path


def test_it_comes_back_from_its_version_where_the_cache_is_gone(store, models, images, count):
    kept = keep_fingerprint(store, models[0], images, device="cpu")
    shutil.rmtree(store.cache)
    assert not keep_fingerprint(store, models[0], images, device="cpu").made
    assert kept.path.is_file()
    folder = local_folder(resolve(store, "vit-small/1").artifacts)
    assert (folder / "fingerprints" / kept.path.name).read_bytes() == kept.path.read_bytes()
    assert len(count) == 1


def test_a_damaged_one_is_fetched_and_if_that_is_damaged_too_made_again(
    store, models, images, count
):
    kept = keep_fingerprint(store, models[0], images, device="cpu")
    sound = kept.path.read_bytes()
    kept.path.write_bytes(sound[:-4])
    assert not keep_fingerprint(store, models[0], images, device="cpu").made
    assert kept.path.read_bytes() == sound
    folder = local_folder(resolve(store, "vit-small/1").artifacts)
    for file in (kept.path, folder / "fingerprints" / kept.path.name):
        file.write_bytes(b"\x80\x04K\x01.")
    assert keep_fingerprint(store, models[0], images, device="cpu").made
    assert kept.path.read_bytes() == sound
    assert len(count) == 2


def test_a_damaged_model_keeps_no_other_from_its_own(store, models, images):
    folder = local_folder(resolve(store, "vit-small/1").artifacts)
    weights = next(folder.rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4])
    told, kept = keep_all(store, models, images, device="cpu")
    assert "is damaged or was changed" in told
    assert kept.made


def test_a_server_that_does_not_answer_is_asked_for_one_model_only(
    store, models, images, count, monkeypatch
):
    def away(*_):
        raise MlflowException("no answer") from requests.ConnectionError()

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", away)
    with pytest.raises(UserError, match="no answer"):
        list(keep_all(store, models, images, device="cpu"))
    assert len(count) == 1


def test_a_model_in_a_folder_has_one_in_the_cache(store, images, make_folder):
    model = resolve(store, str(make_folder(2)))
    assert keep_fingerprint(store, model, images, device="cpu").path.parent.parent == store.cache
    assert not keep_fingerprint(store, model, images, device="cpu").made


def test_images_are_balanced_over_the_classes(store, models, make_split, tmp_path):
    make_split("sorted", 60)  # by class
    few = named_images(store, models, tmp_path / "sorted", 6)
    assert sorted(few.labels) == [0, 0, 1, 1, 2, 2]
    assert few.digest != named_images(store, models, tmp_path / "sorted", 7).digest


def test_a_filter_that_nothing_passes_is_told(store, models):
    with pytest.raises(UserError, match="no model passes the filter 'arch=mixer'"):
        chosen_versions(store, "arch=mixer")
