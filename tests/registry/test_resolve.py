import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.errors import UserError
from zoo.models.files import load_model
from zoo.registry.artifacts import local_folder
from zoo.registry.lookup import find_by_digest
from zoo.registry.register import register
from zoo.registry.resolve import fetch_model, load, resolve


@pytest.fixture
def registered(store, make_folder):
    """Two versions of vit-small, the first of them the best."""
    register(store, make_folder(0, validation=0.6))
    register(store, make_folder(1, validation=0.5))
    return store


@pytest.fixture
def foreign(store) -> None:
    """A model of another flavor, `forest`, as someone else would register it."""
    with_files = store.root / "foreign"
    with_files.mkdir()
    (with_files / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n"
        "  sklearn:\n    pickled_model: model.pkl\n"
    )
    (with_files / "model.pkl").write_bytes(b"\x80\x04not opened")
    store.client.create_registered_model("forest")
    store.client.create_model_version("forest", with_files.as_uri())


def files_of(resolved) -> Path:
    folder = local_folder(resolved.artifacts)
    assert folder is not None
    return folder / "data"


def test_every_form_finds_its_version(registered):
    newest = resolve(registered, "vit-small")
    assert (newest.version, newest.label, newest.uri) == (2, "vit-small", "models:/vit-small/2")
    for text in ("vit-small@best", "vit-small/1", "models:/vit-small/1", "models:/vit-small@best"):
        found = resolve(registered, text)
        assert (found.version, found.label) == (1, "vit-small-v1"), text
        assert found.digest != newest.digest
        assert found.tags["zoo.seed"] == "0"


def test_runs_and_logged_models_are_found_too(registered):
    version = resolve(registered, "vit-small/1")
    for text in (
        f"runs:/{version.run_id}/vit-small",
        f"runs:/{version.run_id}/model",
        f"runs:/{version.run_id}",
        f"models:/{version.model_id}",
    ):
        found = resolve(registered, text)
        assert (found.name, found.digest) == ("vit-small", version.digest), text
        assert load(text, store=registered).digest == version.digest


def test_a_digest_finds_its_version_though_newer_ones_are_there(registered):
    first = resolve(registered, "vit-small/1")
    found = find_by_digest(registered, "vit-small", first.digest)
    assert (found.version, found.label) == (1, "vit-small")
    with pytest.raises(UserError, match="vit-small: no version with sha256 000000000000"):
        find_by_digest(registered, "vit-small", "0" * 64)


def test_a_loaded_model_computes_what_the_trained_one_did(registered, make_folder):
    images = np.random.RandomState(0).randint(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    trained = load_model(make_folder(0, validation=0.6))
    loaded = load("vit-small@best", store=registered)
    assert (loaded.name, loaded.uri) == ("vit-small-v1", "models:/vit-small/1")
    assert loaded.digest == trained.digest
    assert torch.equal(loaded(images), trained(images))


def test_a_folder_needs_no_store(make_folder, monkeypatch):
    from zoo.registry import resolve as module

    monkeypatch.setattr(module, "_open", lambda: pytest.fail("opened a store"))
    folder = make_folder()
    assert load(str(folder)).name == "vit-small"
    assert resolve(None, "timm:resnet18").kind == "timm"


def test_a_name_that_is_nothing_gets_the_nearest(registered):
    with pytest.raises(UserError, match=r"no model 'vit-smal' in .*did you mean 'vit-small'"):
        resolve(registered, "vit-smal")
    with pytest.raises(UserError, match=r"no model 'zzz' in .*; registered: vit-small"):
        resolve(registered, "zzz")


def test_in_an_empty_registry_the_way_out_is_told(store):
    with pytest.raises(UserError, match="nothing is registered; train and register with"):
        resolve(store, "vit-small")


def test_a_version_or_alias_that_is_not_there_gets_those_that_are(registered):
    with pytest.raises(UserError, match=r"vit-small has no version 7; it has 1, 2$"):
        resolve(registered, "vit-small/7")
    with pytest.raises(UserError, match=r"vit-small has no version 9{25}; it has 1, 2$"):
        resolve(registered, f"vit-small/{'9' * 25}")
    with pytest.raises(UserError, match=r"vit-small has no alias 'worst'; it has: best$"):
        resolve(registered, "vit-small@worst")


def test_runs_and_models_that_are_not_there_are_named(registered):
    run_id = resolve(registered, "vit-small").run_id
    with pytest.raises(UserError, match="no run 0000"):
        resolve(registered, f"runs:/{'0' * 32}/model")
    with pytest.raises(UserError, match="has no model 'other'; it has: vit-small"):
        resolve(registered, f"runs:/{run_id}/other")
    with pytest.raises(UserError, match="no model 'models:/m-0000"):
        resolve(registered, f"models:/m-{'0' * 32}")


def test_another_flavor_is_named_and_refused(store, foreign):
    with pytest.raises(UserError, match=r"forest is a model of another flavor \(sklearn\)"):
        resolve(store, "forest")


def test_a_foreign_model_that_claims_a_digest_is_refused_when_fetched(store, foreign):
    store.client.set_model_version_tag("forest", "1", "zoo.sha256", "0" * 64)
    with pytest.raises(UserError, match=r"forest .*cannot be fetched: data/spec\.json is missing"):
        load("forest", store=store)


def test_an_mlflow_model_is_refused_without_being_opened(store):
    import mlflow
    from mlflow.pyfunc import PythonModel

    class Constant(PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input

    mlflow.set_tracking_uri(store.uri)
    try:
        mlflow.set_experiment(experiment_id=store.experiment_id("zoo-train"))
        mlflow.pyfunc.log_model(
            name="model",
            python_model=Constant(),
            registered_model_name="constant",
            pip_requirements=[],
        )
    finally:
        mlflow.set_tracking_uri(None)
    with pytest.raises(UserError, match=r"another flavor \(python_function\)"):
        resolve(store, "constant")


def test_changed_weights_are_refused(registered):
    resolved = resolve(registered, "vit-small")
    weights = files_of(resolved) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"vit-small \(models:/vit-small/2\) is damaged or was ch"):
        load("vit-small", store=registered)


def test_a_changed_spec_is_refused(registered):
    resolved = resolve(registered, "vit-small")
    path = files_of(resolved) / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"class_names": ["x", "y", "z"]}))
    with pytest.raises(UserError, match=r"is damaged or was changed .*; not loaded: run `zoo reg"):
        load("vit-small", store=registered)


def test_missing_files_are_named(registered):
    resolved = resolve(registered, "vit-small")
    (files_of(resolved) / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"data/model\.safetensors is missing in .*register it ag"):
        fetch_model(registered, resolved)
    shutil.rmtree(files_of(resolved).parent)
    with pytest.raises(UserError, match=r"data/spec\.json is missing"):
        fetch_model(registered, resolved)


@pytest.mark.parametrize("linked", ["data/model.safetensors", "data"])
def test_links_that_lead_out_are_not_followed(registered, tmp_path, linked):
    resolved = resolve(registered, "vit-small")
    real = files_of(resolved).parent / linked
    moved = tmp_path / "moved"
    real.rename(moved)
    real.symlink_to(moved)
    with pytest.raises(UserError, match="leads out of its folder"):
        load("vit-small", store=registered)


def test_a_huge_spec_is_not_read(registered, monkeypatch):
    from zoo.registry import resolve as module

    monkeypatch.setattr(module, "LARGEST_SPEC", 100)
    with pytest.raises(UserError, match="no spec"):
        load("vit-small", store=registered)


def test_nothing_is_unpickled(registered, monkeypatch):
    import pickle

    def refuse(*_arguments, **_named):
        raise AssertionError("unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    assert load("vit-small", store=registered).spec.arch == "vit"


def test_what_is_far_away_is_fetched_once_and_verified(registered, monkeypatch):
    from zoo.registry import artifacts
    from zoo.registry import resolve as module

    resolved = resolve(registered, "vit-small")
    fetched = []
    real = artifacts.mlflow.artifacts.download_artifacts

    def download(**named):
        fetched.append(named["artifact_uri"])
        return real(**named)

    monkeypatch.setattr(artifacts, "local_folder", lambda uri: None)
    monkeypatch.setattr(artifacts.mlflow.artifacts, "download_artifacts", download)
    folder = fetch_model(registered, resolved)
    assert folder == registered.cache / "models" / resolved.digest
    assert {path.name for path in folder.iterdir()} == {"spec.json", "model.safetensors"}
    assert fetch_model(registered, resolved) == folder
    assert len(fetched) == 2
    # A damaged or partial copy is fetched again; a damaged original is refused and leaves no copy.
    (folder / "spec.json").write_text("{}")
    assert module.model_digest(fetch_model(registered, resolved)) == resolved.digest
    (folder / "model.safetensors").unlink()
    assert module.model_digest(fetch_model(registered, resolved)) == resolved.digest
    shutil.rmtree(folder)
    (files_of(resolved) / "spec.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged or was changed"):
        fetch_model(registered, resolved)
    assert not folder.exists()
