import json
import shutil
import subprocess
from pathlib import Path

import pytest

from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.files import csv_text, write_text
from zoo.models.spec import model_digest
from zoo.registry.register import register
from zoo.registry.runs import search_runs
from zoo.registry.store import TRAIN
from zoo.registry.tracking import TrackingCallback

ROWS = [
    {"epoch": 1, "step": 2, "train/loss": 1.5, "train/accuracy": 0.3, "validation/loss": 1.4,
     "validation/accuracy": 0.35, "learning_rate": 0.001, "seconds": 0.25},
    {"epoch": 2, "step": 4, "train/loss": 1.25, "train/accuracy": 0.5, "validation/loss": 1.3,
     "validation/accuracy": 0.45, "learning_rate": 0.0005, "seconds": 0.26},
]  # fmt: skip
STEPS = [
    [{"step": 1, "train/step_loss": 1.6, "learning_rate": 0.001},
     {"step": 2, "train/step_loss": 1.4, "learning_rate": 0.0009}],
    [{"step": 3, "train/step_loss": 1.3, "learning_rate": 0.0007},
     {"step": 4, "train/step_loss": 1.2, "learning_rate": 0.0005}],
]  # fmt: skip


def steps_of(store, run_id: str, key: str) -> list[int]:
    return sorted(metric.step for metric in store.client.get_metric_history(run_id, key))


def models_of(store, run) -> list:
    return store.client.search_logged_models([run.info.experiment_id])


def test_a_model_is_registered_once(store, make_folder):
    folder = make_folder()
    first, second = register(store, folder), register(store, folder)
    assert (first.created, second.created) == (True, False)
    assert (first.name, first.version, second.version) == ("vit-small", 1, 1)
    assert first.digest == second.digest
    assert len(search_runs(store, TRAIN)) == 1


def test_a_version_says_all_that_is_known_of_the_model(store, make_folder, test_split):
    own = load_subset(test_split).info.digest
    done = register(store, make_folder(test_digest=own, test_count=12), test_folder=test_split)
    version = store.client.get_model_version("vit-small", "1")
    assert version.tags["zoo.sha256"] == done.digest
    assert version.tags["zoo.arch"] == "vit"
    assert version.tags["zoo.test_accuracy"] == "0.44"
    for part in ("0.440 on 12 images, seed 0", "digits / small: 100 images", done.digest):
        assert part in version.description
    assert "zoo.load" in store.client.get_registered_model("vit-small").description
    run = store.client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer"] == "adam"
    assert run.data.metrics["weights/test/accuracy"] == 0.44
    assert {i.dataset.name: i.tags[0].value for i in run.inputs.dataset_inputs} == {
        "digits/small": "training",
        "digits/test": "testing",
    }
    assert all(len(i.dataset.digest) <= 36 for i in run.inputs.dataset_inputs)
    assert {f.path for f in store.client.list_artifacts(run.info.run_id)} >= {
        "epochs.csv",
        "steps.csv",
    }


def test_the_history_is_replayed_point_by_point(store, make_folder):
    register(store, make_folder())
    run_id = search_runs(store, TRAIN)[0].info.run_id
    assert steps_of(store, run_id, "validation/accuracy") == [1, 2]
    assert steps_of(store, run_id, "train/step_loss") == [1, 2, 3, 4]
    assert steps_of(store, run_id, "learning_rate") == [1, 2, 3, 4]


def test_the_final_measurement_stands_beside_the_watched_one(store, make_folder):
    register(store, make_folder(validation=0.5))
    run = search_runs(store, TRAIN)[0]
    assert run.data.metrics["validation/accuracy"] == 0.45
    assert run.data.metrics["weights/validation/accuracy"] == 0.5
    model = store.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert {m.key: m.value for m in model.metrics} == {
        "weights/test/accuracy": 0.44,
        "weights/validation/accuracy": 0.5,
    }


def test_a_final_measurement_is_a_bar_and_what_was_watched_a_curve(store, make_folder):
    register(store, make_folder(validation=0.5))
    run_id = search_runs(store, TRAIN)[0].info.run_id
    # MLflow draws a bar of what has step 0 alone.
    for key in ("weights/test/accuracy", "weights/validation/accuracy"):
        assert steps_of(store, run_id, key) == [0]
    assert steps_of(store, run_id, "validation/accuracy") == [1, 2]


def test_a_run_lasts_as_long_as_its_training(store, root, make_folder):
    register(store, make_folder())
    info = search_runs(store, TRAIN)[0].info
    assert info.end_time - info.start_time == 510  # ms: 0.25 and 0.26 s

    callback = TrackingCallback("vit-small-1", "inputs", {}, root=root)
    callback.on_start({})
    for row, steps in zip(ROWS, STEPS, strict=True):
        callback.on_epoch(row, steps)
    callback.on_end(True)
    [live] = search_runs(store, TRAIN, input_hash="inputs")
    register(store, make_folder(1))
    [adopted] = search_runs(store, TRAIN, input_hash="inputs")
    assert adopted.info.end_time == live.info.end_time


def test_a_logged_model_is_called_as_its_variant(store, make_folder):
    register(store, make_folder(name="vit-v1.5"))
    run = search_runs(store, TRAIN)[0]
    model = store.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    assert model.name == "vit-v1-5"


def test_a_run_that_was_logged_live_is_adopted(store, root, make_folder):
    callback = TrackingCallback("vit-small-0", "inputs", {"optimizer": "adam"}, root=root)
    state: dict = {}
    callback.on_start(state)
    for row, steps in zip(ROWS, STEPS, strict=True):
        callback.on_epoch(row, steps)
    callback.on_end(True)
    register(store, make_folder())
    runs = search_runs(store, TRAIN)
    assert [run.info.run_id for run in runs] == [state["mlflow_run_id"]]
    assert steps_of(store, runs[0].info.run_id, "train/loss") == [1, 2]
    assert steps_of(store, runs[0].info.run_id, "train/step_loss") == [1, 2, 3, 4]
    assert store.client.get_model_version("vit-small", "1").run_id == runs[0].info.run_id


def test_what_a_server_missed_is_added_to_its_run(store, root, make_folder):
    callback = TrackingCallback("vit-small-0", "inputs", root=root)
    callback.on_start({})
    callback.on_epoch(ROWS[0], STEPS[0])  # then the server is away until training is over
    register(store, make_folder())
    runs = search_runs(store, TRAIN)
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    assert steps_of(store, runs[0].info.run_id, "train/loss") == [1, 2]


def test_the_run_of_another_training_is_left_alone(store, root, make_folder):
    callback = TrackingCallback("vit-small-0", "inputs", root=root)
    callback.on_start({})
    callback.on_epoch(ROWS[0] | {"seconds": 9.0}, STEPS[0])
    callback.on_end(True)
    register(store, make_folder())
    assert len(search_runs(store, TRAIN)) == 2


def test_best_follows_the_validation_accuracy_and_ties_stay_with_the_older(store, make_folder):
    def best() -> str:
        return str(store.client.get_registered_model("vit-small").aliases["best"])

    seen = []
    for seed, accuracy in enumerate([0.5, 0.4, 0.5, 0.6]):
        register(store, make_folder(seed, validation=accuracy))
        seen.append(best())
    assert seen == ["1", "1", "1", "4"]


def test_a_model_without_accuracy_gets_no_alias(store, make_folder):
    register(store, make_folder(metrics={}))
    assert store.client.get_registered_model("vit-small").aliases == {}


def test_other_people_s_aliases_and_descriptions_stay(store, make_folder):
    register(store, make_folder())
    store.client.set_registered_model_alias("vit-small", "paper", "1")
    store.client.update_model_version("vit-small", "1", "mine")
    store.client.update_registered_model("vit-small", "mine too")
    register(store, make_folder())
    register(store, make_folder(1))
    model = store.client.get_registered_model("vit-small")
    assert model.description == "mine too"
    assert "paper" in model.aliases
    assert store.client.get_model_version("vit-small", "1").description == "mine"


def test_an_emptied_registry_is_filled_again(store, make_folder):
    folder = make_folder()
    register(store, folder)
    store.client.delete_registered_model("vit-small")
    assert register(store, folder).created


def test_lost_files_come_back(store, make_folder):
    from zoo.registry.resolve import fetch_model, resolve

    folder = make_folder()
    register(store, folder)
    found = fetch_model(store, resolve(store, "vit-small")).parent
    for name in ("MLmodel", "data/model.safetensors"):
        (found / name).unlink()
    retry_on_conflict = register(store, folder)
    assert (retry_on_conflict.created, retry_on_conflict.restored) == (False, True)
    assert fetch_model(store, resolve(store, "vit-small")).is_dir()
    retry_on_conflict = register(store, folder)
    assert (retry_on_conflict.created, retry_on_conflict.restored) == (False, False)


@pytest.mark.parametrize("name", ["spec.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_damaged_files_come_back(store, make_folder, name, damage):
    from zoo.registry.resolve import fetch_model, load, resolve

    folder = make_folder()
    register(store, folder)
    file = fetch_model(store, resolve(store, "vit-small")) / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match="run `zoo register` where it was trained"):
        load("vit-small", store=store)
    assert register(store, folder).restored
    assert load("vit-small", store=store).digest == model_digest(folder)
    assert not register(store, folder).restored


def test_files_that_were_cut_short_elsewhere_come_back(store, make_folder, monkeypatch):
    from zoo.registry.resolve import fetch_model, resolve

    folder = make_folder()
    register(store, folder)
    file = fetch_model(store, resolve(store, "vit-small")) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    monkeypatch.setattr("zoo.registry.uploads.local_folder", lambda _: None)
    assert register(store, folder).restored
    assert not register(store, folder).restored


def test_a_new_version_of_a_model_that_was_logged_has_its_files(store, make_folder, caplog):
    """The registry was emptied and the files were lost, but the run and its model are there."""
    from zoo.registry.resolve import load

    folder = make_folder()
    register(store, folder)
    store.client.delete_registered_model("vit-small")
    shutil.rmtree(store.root / "mlartifacts")
    retry_on_conflict = register(store, folder)
    assert (retry_on_conflict.created, retry_on_conflict.restored) == (True, True)
    assert "vit-small version 1: its files were lost or damaged; restored from" in caplog.text
    assert load("vit-small", store=store).digest == retry_on_conflict.digest


def test_a_damaged_folder_registers_nothing(store, make_folder):
    folder = make_folder()
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        register(store, folder)
    assert search_runs(store, TRAIN) == []


def test_a_name_that_mlflow_refuses_is_refused_before_anything_is_sent(store, make_folder):
    folder = make_folder(name="vit-bad")
    spec = json.loads((folder / "spec.json").read_text()) | {"name": "vit/small"}
    (folder / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(UserError, match="name 'vit/small': expected letters"):
        register(store, folder)
    assert search_runs(store, TRAIN) == []


def test_several_are_registered_with_their_images(store, make_folder, test_split):
    own = load_subset(test_split).info.digest
    folders = [make_folder(seed, test_digest=own) for seed in (0, 1)]
    done = [register(store, folder, test_folder=test_split) for folder in folders]
    assert [(entry.version, entry.created) for entry in done] == [(1, True), (2, True)]
    assert len(search_runs(store, "zoo-data")) == 1


def test_the_git_commit_and_whether_files_differ_are_recorded(store, root, make_folder):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)

    git("init")
    (root / "notes.txt").write_text("1")
    git("add", "notes.txt")
    git("commit", "-m", "a")
    (root / "notes.txt").write_text("2")
    register(store, make_folder())
    tags = search_runs(store, TRAIN)[0].data.tags
    head = (root / ".git" / "HEAD").read_text().split()[-1]
    assert tags["mlflow.source.git.commit"] == Path(root, ".git", head).read_text().strip()
    assert tags["zoo.git_dirty"] == "true"


def test_another_test_split_is_not_taken_for_the_models_own(store, make_folder, test_split, caplog):
    register(store, make_folder(), test_folder=test_split)
    assert "registered without images to compare on" in caplog.text
    assert not search_runs(store, "zoo-data")
    assert "12 images" not in store.client.get_model_version("vit-small", "1").description


def test_the_same_weights_trained_again_leave_one_run(store, root, make_folder):
    def train(seconds: float) -> str:
        callback, state = TrackingCallback("vit-small-0", "inputs", root=root), {}
        callback.on_start(state)
        rows = [row | {"seconds": seconds} for row in ROWS]
        for row, steps in zip(rows, STEPS, strict=True):
            callback.on_epoch(row, steps)
        callback.on_end(True)
        write_text(folder / "epochs.csv", csv_text(rows))
        return state["mlflow_run_id"]

    folder = make_folder()
    first = train(1.5)
    assert register(store, folder).created
    train(2.5)
    assert len(search_runs(store, TRAIN)) == 2
    assert not register(store, folder).created
    assert [run.info.run_id for run in search_runs(store, TRAIN)] == [first]
