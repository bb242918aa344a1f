"""Verifying: each thing that can go wrong is found and named, and nothing else is."""

import shutil

import pytest

from tests.registry.conftest import MLFLOW_SERVER, Server
from tests.registry.test_removal import PARAMS
from zoo.config import load_params
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.files import write_json
from zoo.models.spec import read_spec
from zoo.registry import verify as verify_module
from zoo.registry.annotations import set_alias
from zoo.registry.artifacts import local_folder
from zoo.registry.register import register, register_study
from zoo.registry.removal import plan_removal, remove
from zoo.registry.resolve import load, resolve
from zoo.registry.runs import search_runs
from zoo.registry.store import TEST_IMAGES, open_store
from zoo.registry.verify import verify


@pytest.fixture
def filled(store, root, make_folder, test_split):
    """Two versions with test images, from the two outputs that params.yaml asks for."""
    (root / "params.yaml").write_text(PARAMS)
    own = load_subset(test_split).info.digest
    for seed in range(2):
        folder = root / "models" / f"vit-small-{seed}"
        shutil.copytree(make_folder(seed, test_digest=own), folder)
    params = load_params(root / "params.yaml")
    register_study(store, params, root / "models", test_folder=test_split)
    return store


def files(store, reference):
    return local_folder(resolve(store, reference).artifacts) / "data"


def found(store, *references):
    return [(f.kind, f.what, f.why) for f in verify(store, references).findings]


def test_a_whole_registry_is_well(filled):
    seen = []
    done = verify(filled, on_progress=lambda *told: seen.append(told))
    assert done.findings == ()
    assert (done.versions, done.images, done.outputs) == (2, 1, 2)
    assert seen == [(done, 5, "checks") for done in (0, 1, 2, 5)]


def test_files_that_are_gone_are_missing(filled):
    (files(filled, "vit-small/1") / "model.safetensors").unlink()
    shutil.rmtree(files(filled, "vit-small/2").parent)
    [(kind, what, why), (_, other, all_gone)] = found(filled)
    assert (kind, what, other) == ("missing", "vit-small/1", "vit-small/2")
    assert why.startswith("data/model.safetensors not in ")
    assert "MLmodel, data/spec.json, data/model.safetensors not in" in all_gone


def test_changed_weights_are_damaged(filled):
    with (files(filled, "vit-small/1") / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    [(kind, what, why)] = found(filled)
    assert (kind, what) == ("damaged", "vit-small/1")
    assert "expected sha256" in why


def test_weights_that_do_not_fit_their_spec_are_damaged(store, make_folder, monkeypatch):
    folder = make_folder()
    spec = read_spec(folder / "spec.json").as_dict()
    write_json(folder / "spec.json", spec | {"class_names": ["a", "b"]})
    with monkeypatch.context() as patch:  # registered before registering looked
        patch.setattr("zoo.models.files.load_model", lambda _: None)
        register(store, folder)
    (kind, _, why), _ = found(store, "vit-small")  # the other: no test images were registered
    assert kind == "damaged"
    assert "does not fit spec.json" in why


def test_an_mlmodel_that_does_not_describe_its_model_is_damaged(filled):
    file = files(filled, "vit-small/1").parent / "MLmodel"
    content = file.read_text()
    for old, new, why in (
        ("flavors:", "flavors", "MLmodel is damaged ("),
        ("  zoo:", "  foo:", "MLmodel is damaged (KeyError: 'zoo')"),
        ("digest: ", "digest: 0", "it describes another model"),
        ("arch: vit", "arch: vat", "it describes another model"),
        ("loader_module: zoo_pyfunc", "loader_module: os", "it describes another model"),
        ("uint8", "int16", "it describes another model"),
    ):
        assert old in content
        file.write_text(content.replace(old, new, 1))
        [(kind, what, said)] = found(filled)
        assert (kind, what) == ("damaged", "vit-small/1"), old
        assert why in said


def test_a_model_that_brings_no_loader_is_whole(filled):
    file = files(filled, "vit-small/1").parent / "MLmodel"
    content = file.read_text()
    file.write_text(
        content.replace("loader_module: zoo_pyfunc", "loader_module: zoo.registry.serving")
    )
    assert file.read_text() != content
    assert found(filled) == []


def test_a_damaged_history_is_told(filled):
    run = filled.client.get_run(resolve(filled, "vit-small/1").run_id)
    for file, old, new, why in (
        ("epochs.csv", "1.25", "1.35", "train/loss at 2 is 1.35, logged was 1.25"),
        ("epochs.csv", "\n2,", "\n3,", "at 3 is "),
        ("epochs.csv", "0.26", "x", "epochs.csv is damaged (ValueError"),
        ("steps.csv", "1.3,", "1.2,", "train/step_loss at 3 is 1.2, logged was 1.3"),
    ):
        kept = local_folder(run.info.artifact_uri) / file
        content = kept.read_text()
        kept.write_text(content.replace(old, new, 1))
        [(kind, what, said)] = found(filled)
        kept.write_text(content)
        assert (kind, what) == ("damaged", "vit-small/1"), old
        assert why in said


def test_an_output_whose_history_cannot_be_read_is_damaged(filled, root):
    (root / "models" / "vit-small-0" / "steps.csv").write_text("step,loss\nx,1\n")
    [(kind, what, why)] = found(filled)
    assert (kind, what) == ("damaged", "models/vit-small-0")
    assert "steps.csv is damaged" in why


def test_tags_that_someone_changed_are_damage(store, make_folder):
    register(store, make_folder())
    tags = resolve(store, "vit-small").tags
    for key, value, why in (
        ("zoo.test_accuracy", "0.99", "tags were changed: zoo.test_accuracy is 0.99, was 0.44"),
        ("zoo.sha256", "0" * 64, "expected sha256 000000000000"),
        ("zoo.sha256", "<script>", "expected a sha256 of 64 hex digits"),
        ("zoo.sha256", None, "zoo.sha256 is gone"),
    ):
        if value is None:
            store.client.delete_model_version_tag("vit-small", "1", key)
        else:
            store.client.set_model_version_tag("vit-small", "1", key, value)
        [(kind, what, said)] = found(store, "vit-small")[:1]
        store.client.set_model_version_tag("vit-small", "1", key, tags[key])
        assert (kind, what) == ("damaged", "vit-small/1"), value
        assert why in said


def test_a_version_without_its_run_is_an_orphan(filled):
    run_id = resolve(filled, "vit-small/2").run_id
    filled.client.delete_run(run_id)
    [(kind, what, why)] = found(filled)
    assert (kind, what) == ("orphaned", "vit-small/2")
    assert f"mlflow runs restore --run-id {run_id}" in why


def test_a_version_whose_run_mlflow_gc_took_is_made_anew(filled, root):
    run_id = resolve(filled, "vit-small/2").run_id
    filled.client.delete_run(run_id)
    filled.client._tracking_client.store._hard_delete_run(run_id)
    [(kind, what, why)] = found(filled)
    assert (kind, what) == ("orphaned", "vit-small/2")
    assert "`zoo rm vit-small/2` and then `zoo register`" in why
    remove(filled, plan_removal(filled, "vit-small/2"))
    register(filled, root / "models" / "vit-small-1")
    assert found(filled) == []


def test_a_run_that_names_other_data_is_no_lineage(filled):
    filled.client.set_model_version_tag("vit-small", "1", "zoo.subset_digest", "9" * 64)
    kinds = {(kind, what) for kind, what, _ in found(filled)}
    assert kinds == {("damaged", "vit-small/1"), ("orphaned", "vit-small/1")}


def test_lost_and_damaged_test_images_are_told_once(filled):
    [run] = search_runs(filled, TEST_IMAGES)
    images = local_folder(run.info.artifact_uri) / "images" / "images.npy"
    images.write_bytes(images.read_bytes()[:-1] + b"\x01")
    [(kind, what, why)] = found(filled)
    assert kind == "damaged"
    assert what.startswith("test images ")
    assert why.endswith("needed by vit-small/1 and 1 more")
    filled.client.delete_run(run.info.run_id)
    [(kind, _, why)] = found(filled)
    assert kind == "orphaned"
    assert "not in the registry" in why


def test_outputs_that_are_not_registered_are_missing(filled, root):
    remove(filled, plan_removal(filled, "vit-small/1"))
    shutil.rmtree(root / "models" / "vit-small-1")
    assert found(filled) == [
        ("missing", "models/vit-small-0", "not registered; `zoo register` does it"),
        ("missing", "models/vit-small-1", "not there; `dvc repro` or `dvc pull`"),
    ]


def test_a_name_that_means_another_model_than_the_studys_differs(filled):
    set_alias(filled, "vit-small", "current", "2")
    why = "version 1, but vit-small means 2; `zoo register` corrects it"
    assert found(filled) == [("differs", "models/vit-small-0", why)]


def test_a_receipt_of_other_models_differs(filled, root):
    digests = {f"vit-small-{seed}": resolve(filled, f"vit-small/{seed + 1}").digest
               for seed in range(2)}  # fmt: skip
    write_json(root / "registered.json", digests)
    assert found(filled) == []
    write_json(root / "registered.json", digests | {"vit-small-1": "0" * 64})
    why = "registered.json names another model; `dvc repro` corrects it"
    assert found(filled) == [("differs", "models/vit-small-1", why)]


def test_models_of_an_experiment_that_is_neither_kept_nor_undone_differ(filled, root, make_folder):
    folder = root / "models" / "vit-small-0"
    shutil.rmtree(folder)
    shutil.copytree(make_folder(0, validation=0.9), folder)
    register(filled, folder, experiment="brave-eel")
    kind, what, why = found(filled)[-1]
    assert (kind, what) == ("differs", "models/vit-small-0")
    assert why.startswith("of the experiment brave-eel; `dvc repro` keeps it")


def test_a_few_versions_can_be_verified_alone(filled):
    shutil.rmtree(files(filled, "vit-small/1"))
    assert found(filled, "vit-small/2") == []
    assert verify(filled, ["vit-small/2"]).outputs == 0


@pytest.mark.slow
def test_a_server_is_asked_afresh(tmp_path, database, monkeypatch, make_folder, test_split):
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copyfile(database, folder / "mlflow.db")
    server = Server(folder, MLFLOW_SERVER)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        server.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        store = open_store(tmp_path)
        own = load_subset(test_split).info.digest
        register(store, make_folder(test_digest=own), test_folder=test_split)
        load("vit-small", store=store)  # into the cache, which must not hide what comes next
        assert found(store) == []
        [weights] = folder.rglob("model.safetensors")
        kept = weights.read_bytes()
        weights.write_bytes(kept + b"x")
        assert [(kind, what) for kind, what, _ in found(store)] == [("damaged", "vit-small/1")]
        weights.unlink()
        [(kind, _, why)] = found(store)
        assert (kind, why.split(" not in ")[0]) == ("missing", "data/model.safetensors")
        weights.write_bytes(kept)
        real = verify_module.load_resolved

        def killed(*arguments):
            server.kill()
            return real(*arguments)

        monkeypatch.setattr(verify_module, "load_resolved", killed)
        with pytest.raises(UserError, match="no answer from the tracking server"):
            verify(store)
    finally:
        server.kill()
