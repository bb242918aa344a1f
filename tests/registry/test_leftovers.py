"""What killed processes left is named and removed at once; what anybody else has is not."""

import json
import os

import pytest
from filelock import FileLock

from zoo import files
from zoo.files.folders import FolderKind, replacing_folder
from zoo.models.spec import SPEC_KEYS
from zoo.project import leftovers
from zoo.project.doctor import check_leftovers
from zoo.project.leftovers import find_leftovers
from zoo.registry.register import register
from zoo.registry.runs import PLACE, search_runs
from zoo.registry.store import AUDIT, COMPARE, EXPERIMENTS, TEST_IMAGES, TRAIN

SPEC = json.dumps(dict.fromkeys(SPEC_KEYS, 1))
LEFT = {
    "models/.vit-small-0.abcdefgh": ["/model.safetensors", "/.spec.json.12345678"],
    "data/subsets/.test.abcd_fgh": ["/images.npy"],
    "reports/.a__b.abcdefgh": ["/figures/a.png"],
    "reports/.audit.abcdefgh": ["/audit.png"],
    ".comparisons.abcdefgh": ["/a__b/report.html"],
    ".zoo/cache/models/.0f.zyxwvu98": ["/tmpabc/data/spec.json"],
    ".registered.json.abcdefgh": [""],
    "effect/.AXJp4miDTnL49i7Iwo5Hew.tmp": [""],
    "models/vit-small-0/.AXJp4miDTnL49i7Iwo5Hew.tmp": [""],
    "metrics/train/.vit-small-0.json.abcdefgh": [""],
    ".mlflow.db.123": [""],
    "mlartifacts/zoo-train/r/artifacts/.artifact.uploading.1f": [""],
}
KEPT = [
    "models/.hidden.folders/file",
    ".mine.abcdefgh/file",
    ".notes.json.abcdefgh",
    "effect/.notes.tmp",
    "notes/.AXJp4miDTnL49i7Iwo5Hew.tmp",
    "mlartifacts/zoo-train/r/artifacts/model",
    "metrics/train/vit-small-0.json",
]


@pytest.fixture
def at_once(monkeypatch):
    """Let a file be old enough to be called abandoned as soon as it is there."""
    for module in (files, leftovers):
        monkeypatch.setattr(module, "HELD_SECONDS", -1)


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(SPEC)


def everything(root):
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("mlflow.db") and path.suffix != ".lock"
    }


def test_what_was_left_is_named_and_removed_and_nothing_else_is(root, at_once):
    left = {f"{name}{inside}" for name, files in LEFT.items() for inside in files}
    write(root, *left, *KEPT)
    named = {check.found.split()[-1] for check in check_leftovers(root)}
    assert named == {str(root / name) for name in LEFT}
    assert everything(root) == {*left, *KEPT}
    cleaned = list(check_leftovers(root, clean=True))
    assert {check.status for check in cleaned} == {"ok"}
    assert everything(root) == set(KEPT)
    assert list(check_leftovers(root)) == []


def test_a_folder_with_somebody_elses_file_is_named_and_kept(root, at_once):
    write(root, "models/.vit-small-0.abcdefgh/notes.md")
    (kept,) = check_leftovers(root, clean=True)
    assert (kept.status, kept.fix[:5]) == ("warning", "kept:")
    assert everything(root) == {"models/.vit-small-0.abcdefgh/notes.md"}


def test_of_a_store_elsewhere_nothing_here_is_left(root, at_once, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    write(root, ".mlflow.db.123", "mlartifacts/1/r/artifacts/.artifact.uploading.1f")
    assert list(find_leftovers(root)) == []


def test_a_folder_that_was_moved_aside_is_put_back(root, at_once):
    write(root, "models/.vit-small-0.old.abcdefgh/replaced/spec.json")
    list(check_leftovers(root, clean=True))
    assert everything(root) == {"models/vit-small-0/spec.json"}


def test_what_a_process_is_at_work_on_is_not_left(root, at_once):
    with replacing_folder(root / "models" / "a", FolderKind(files=("*",))) as new:
        write(new, "file")
        assert list(find_leftovers(root)) == []
    with (root / ".registered.json.abcdefgh").open("w") as file:
        files.hold(file.fileno())
        assert list(find_leftovers(root)) == []
    assert len(list(find_leftovers(root))) == 1


@pytest.mark.parametrize(
    ("experiment", "tags", "lock"),
    [
        (COMPARE, {"zoo.comparison_digest": "c" * 64}, "locks/compare-" + "c" * 16),
        (COMPARE, {"zoo.map_digest": "m" * 64}, "locks/map-" + "m" * 16),
        (AUDIT, {"zoo.audit_models": "0f 1e"}, "locks/audit"),
        (TRAIN, {"zoo.input_hash": "a" * 64}, "checkpoints/" + "a" * 64),
        (TRAIN, {"zoo.sha256": "d" * 64, "zoo.name": "vit"}, "locks/register-vit"),
        (
            TEST_IMAGES,
            {"zoo.images_digest": "i", "zoo.test_digest": "7" * 64},
            "locks/images-" + "7" * 16,
        ),
    ],
)  # fmt: skip
def test_a_run_that_nobody_works_at_is_named_and_removed(store, root, experiment, tags, lock):
    made = store.client.create_run(
        store.experiment_id(experiment), run_name="begun", tags={PLACE: store.place, **tags}
    )
    store.client.create_run(store.experiment_id(experiment), tags={PLACE: "elsewhere", **tags})
    done = store.client.create_run(store.experiment_id(experiment), tags={PLACE: store.place})
    store.client.set_terminated(done.info.run_id)
    path = root / ".zoo" / f"{lock}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        assert list(find_leftovers(root)) == []
    (found,) = find_leftovers(root)
    assert found.label == f"begun (run {made.info.run_id})"
    list(check_leftovers(root, clean=True))
    assert made.info.run_id not in {run.info.run_id for run in search_runs(store, experiment)}
    assert len(search_runs(store, experiment)) == 2
    assert list(find_leftovers(root)) == []


def test_a_training_that_can_go_on_is_not_left(store, root):
    tags = {PLACE: store.place, "zoo.input_hash": "a" * 64}
    store.client.create_run(store.experiment_id(TRAIN), tags=tags)
    write(root, f".zoo/checkpoints/{'a' * 64}/checkpoint.safetensors")
    assert list(find_leftovers(root)) == []


def test_the_begun_model_of_a_run_goes_with_it(store, root, make_folder, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.registry.uploads.log_final", killed)
    with pytest.raises(KeyboardInterrupt):
        register(store, make_folder())
    ids = [store.experiment_id(TRAIN)]
    assert len(store.client.search_logged_models(ids)) == 1
    list(check_leftovers(root, clean=True))
    assert store.client.search_logged_models(ids) == []
    assert search_runs(store, TRAIN) == []


def test_looking_makes_nothing(tmp_path, monkeypatch, store, root):
    (tmp_path / "empty").mkdir()
    assert list(find_leftovers(tmp_path / "empty")) == []
    assert os.listdir(tmp_path / "empty") == []
    assert list(find_leftovers(root)) == []
    assert not any(map(store.client.get_experiment_by_name, EXPERIMENTS))
