"""Registering, killed or done at the same moment elsewhere: one version, nothing doubled."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.registry.test_register import models_of, steps_of
from zoo.registry import register as module
from zoo.registry import uploads
from zoo.registry.listing import list_versions
from zoo.registry.lookup import all_versions, find_version
from zoo.registry.register import register
from zoo.registry.runs import search_runs
from zoo.registry.store import TRAIN
from zoo.registry.verify import verify


def register_killed_at(step_of, step, store, folder, monkeypatch):
    """Register a model in a process that is killed where it would begin a step."""

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step_of, step, die)
        with pytest.raises(KeyboardInterrupt):
            register(store, folder)


def test_killed_before_the_end_it_is_finished_without_doubling(store, make_folder, monkeypatch):
    folder = make_folder()
    register_killed_at(uploads, "log_final", store, folder, monkeypatch)
    assert find_version(store, "vit-small", "0" * 64) is None
    assert register(store, folder).created
    runs = search_runs(store, TRAIN)
    assert len(runs) == 1
    assert len(models_of(store, runs[0])) == 1
    assert steps_of(store, runs[0].info.run_id, "train/loss") == [1, 2]
    assert steps_of(store, runs[0].info.run_id, "weights/test/accuracy") == [
        0
    ]  # a final value is a bar, not a chart of one dot


def test_what_another_place_has_begun_is_left_to_it(store, make_folder, monkeypatch, tmp_path):
    folder = make_folder()
    other = dataclasses.replace(store, root=tmp_path / "elsewhere")
    register_killed_at(uploads, "log_final", other, folder, monkeypatch)
    [begun] = search_runs(store, TRAIN)
    assert register(store, folder).created
    [version] = all_versions(store)
    own, left = search_runs(store, TRAIN)
    assert (own.info.run_id, left.info.run_id) == (version.run_id, begun.info.run_id)
    assert (own.info.status, left.info.status) == ("FINISHED", "RUNNING")
    # The other place, asked again, finds the version and takes what it had begun away.
    assert not register(other, folder).created
    assert [run.info.run_id for run in search_runs(store, TRAIN)] == [version.run_id]
    assert steps_of(store, version.run_id, "train/loss") == [1, 2]


def test_what_another_place_has_finished_is_registered(store, make_folder, monkeypatch, tmp_path):
    folder = make_folder()
    other = dataclasses.replace(store, root=tmp_path / "elsewhere")
    register_killed_at(module, "_ensure_name", other, folder, monkeypatch)
    assert register(store, folder).created
    [run] = search_runs(store, TRAIN)
    assert len(models_of(store, run)) == 1


def test_a_version_that_another_machine_made_in_the_same_moment_wins(
    store, make_folder, monkeypatch
):
    folder = make_folder()
    register(store, folder)
    # What a second machine sees that looked just before: nothing.
    monkeypatch.setattr(module, "find_version", _blind_once(module.find_version))
    assert register(store, folder).version == 1
    assert [v.version for v in store.client.search_model_versions("name = 'vit-small'")] in (
        [1],
        ["1"],
    )


def _blind_once(real):
    asked = []

    def find(*arguments):
        asked.append(arguments)
        return None if len(asked) == 1 else real(*arguments)

    return find


FORKS = """
import os, sys
from pathlib import Path
from tests.chaos_steps import end, warm
from zoo.registry.register import register
from zoo.registry.store import open_store

def work(first):
    store = open_store()
    for folder in sys.argv[1 + first :] + sys.argv[1 : 1 + first]:
        print(register(store, Path(folder)).created)

warm()
for number in range(8):
    if not os.fork():
        end(lambda: work(number % 4))
sys.exit(any([os.wait()[1] for _ in range(8)]))
"""


@pytest.mark.slow
def test_eight_processes_register_at_once(store, root, make_folder):
    """Each registers four models of one name, in its own order: none fails, doubles or skips."""
    folders = [str(make_folder(seed)) for seed in range(4)]
    done = subprocess.run(
        [sys.executable, "-c", FORKS, *folders],
        cwd=root, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(done.stdout.split()) == ["False"] * 28 + ["True"] * 4
    rows = list_versions(store)
    assert [row.version for row in rows] == [1, 2, 3, 4]
    assert len({row.digest for row in rows}) == 4
    assert len(search_runs(store, TRAIN)) == 4
    lost = [f for f in verify(store).findings if not f.what.startswith("test images")]
    assert lost == []


def test_two_machines_that_register_one_model_at_once_make_one_version(
    store, root, tmp_path, make_folder, monkeypatch
):
    folder = make_folder()
    store.experiment_id(TRAIN)
    # Another root is another place with locks of its own, as another machine is.
    other = dataclasses.replace(store, root=tmp_path / "elsewhere")
    both_looked = threading.Barrier(2, timeout=60)
    find, find_run = module.find_version, uploads.find_run
    looked = threading.local()

    def find_at_once(*arguments):
        found = find(*arguments)
        if not getattr(looked, "once", False):
            looked.once = True
            both_looked.wait()
        return found

    def find_run_at_once(*arguments):
        found = find_run(*arguments)
        both_looked.wait()
        return found

    monkeypatch.setattr(module, "find_version", find_at_once)
    monkeypatch.setattr(uploads, "find_run", find_run_at_once)
    done, errors = [], []

    def work(place):
        try:
            done.append(register(place, folder))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(place,)) for place in (store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [entry.version for entry in done] == [1, 1]
    versions = all_versions(store)
    assert [int(version.version) for version in versions] == [1]
    assert [run.info.run_id for run in search_runs(store, TRAIN)] == [versions[0].run_id]
    models = store.client.search_logged_models([store.experiment_id(TRAIN)])
    assert [model.model_id for model in models] == [versions[0].tags["zoo.model_id"]]
