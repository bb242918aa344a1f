"""Comparisons of registered models: names, ceilings, and what is left when something fails."""

import dataclasses
import json
import shutil
import time
from threading import Barrier, Thread

import pytest

import zoo
from zoo.comparison import Comparison
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.files import write_json
from zoo.models.files import load_model, save_model
from zoo.registry import compare
from zoo.registry.artifacts import local_folder
from zoo.registry.register import register
from zoo.registry.resolve import resolve
from zoo.registry.store import open_store


@pytest.fixture
def save(tmp_path, monkeypatch, make_model):
    """Save a model in a folder: `save("a", seed=1)` returns the folder."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)

    def save(folder, **known):
        model = make_model("vit", "vit-small", **{"subset_digest": "d" * 64} | known)
        save_model(tmp_path / folder, model.module, model.spec)
        return tmp_path / folder

    return save


@pytest.fixture
def compared(tmp_path, save, digits_folder, monkeypatch):
    """Compare two folders with numbers that are measured once; count how often they were asked."""
    store = open_store(tmp_path / "store")
    folders = [save(name, seed=i) for i, name in enumerate("ab")]
    models = [resolve(store, str(folder)) for folder in folders]
    test = load_subset(digits_folder / "test")
    loaded = [load_model(folder, name=name) for folder, name in zip(folders, "ab", strict=True)]
    made = zoo.compare(loaded, test.images, test.labels, only="accuracy").results
    computed = []

    def answer(question, _):
        computed.append(question.digest)
        known = made.provenance | {"digest": question.digest}
        return Comparison(dataclasses.replace(made, provenance=known))

    monkeypatch.setattr(compare._Question, "answer", answer)

    def run(**known):
        return compare.compare_registered(
            store, models, tmp_path / "out", data=digits_folder / "test", **known
        )

    return run, computed


def test_models_that_share_a_name_are_told_apart(tmp_path, save):
    store = open_store(tmp_path / "store")
    a, b, c = (resolve(None, str(save(n, seed=s))) for n, s in (("a", 0), ("b", 1), ("c", 2)))
    version = dataclasses.replace(a, version=3, folder=None)
    assert compare.unique_names(store, [version, b]) == ["vit-small v3", "vit-small seed 1"]
    assert compare.unique_names(store, [b, c]) == ["vit-small seed 1", "vit-small seed 2"]
    same = resolve(None, str(save("d", seed=1, metrics={"test/accuracy": 0.5})))
    assert compare.unique_names(store, [b, same]) == [
        f"vit-small {m.digest[:6]}" for m in (b, same)
    ]
    with pytest.raises(UserError, match="expected different models"):
        compare.unique_names(store, [b, b])


def test_a_name_means_all_seeds_of_the_same_recipe_and_a_version_one(tmp_path, save):
    store = open_store(tmp_path / "store")
    long, short = {"epochs": 9}, {"epochs": 1}
    register(store, save("a", seed=0, training=long))
    register(store, save("b", seed=1, training=short))
    version = resolve(store, "vit-small/1")
    model = dataclasses.replace(version, reference="vit-small")
    assert compare.other_seeds(store, [model]) == []
    register(store, save("c", seed=7, training=long))
    register(store, save("d", seed=2, training=long))
    register(store, save("e", seed=7, training=long, metrics={"test/accuracy": 0.5}))
    assert [(i, m.version) for i, m in compare.other_seeds(store, [model])] == [(0, 4), (0, 5)]
    assert compare.other_seeds(store, [version]) == []


def test_seeds_may_draw_other_images_to_train_on_but_not_to_test_on(tmp_path, save):
    store = open_store(tmp_path / "store")
    register(store, save("a", seed=0, test_digest="1" * 64))
    register(store, save("b", seed=1, test_digest="1" * 64, subset_digest="e" * 64))
    register(store, save("c", seed=2, test_digest="2" * 64, subset_digest="f" * 64))
    register(store, save("d", seed=3, test_digest="1" * 64, subset_count=7))
    model = dataclasses.replace(resolve(store, "vit-small/1"), reference="vit-small")
    assert [m.version for _, m in compare.other_seeds(store, [model])] == [2]
    found = compare.other_seeds(store, [model], own_images=False)
    assert [m.version for _, m in found] == [2, 3]


def test_what_could_not_be_logged_is_kept_and_logged_later(compared, tmp_path, monkeypatch):
    run, computed = compared

    def away(*_, **__):
        # Also for a process that is killed here.
        assert (tmp_path / "out" / "report.json").is_file()
        raise UserError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(compare, "log_comparison", away)
        with pytest.raises(UserError, match=r"is complete in .* without --force, logs it later"):
            run()
    assert run().found
    assert len(computed) == 1


def test_two_comparisons_at_once_do_not_log_each_others_report(compared, tmp_path, monkeypatch):
    run, _ = compared
    answer, log, both_compute = compare._Question.answer, compare.log_comparison, Barrier(2)

    def answer_together(*args):
        both_compute.wait(30)
        return answer(*args)

    def log_late(*args, **known):
        time.sleep(2)  # in which the other one would replace the folder
        return log(*args, **known)

    with monkeypatch.context() as patch:
        patch.setattr(compare._Question, "answer", answer_together)
        patch.setattr(compare, "log_comparison", log_late)
        other = Thread(target=run, kwargs={"only": ["accuracy"]})
        other.start()
        run(only=["cka"])
        other.join()
    reports = []
    for only in (["accuracy"], ["cka"]):
        shutil.rmtree(tmp_path / "out")
        done = run(only=only)
        assert done.found
        assert json.loads((tmp_path / "out" / "report.json").read_text()) == done.report
        assert done.run.data.tags["zoo.comparison_digest"] == done.report["digest"]
        reports.append(done.report)
    assert reports[0] != reports[1]


def test_a_run_with_anothers_report_is_refused(compared, tmp_path):
    run, _ = compared
    done = run()
    shutil.rmtree(tmp_path / "out")
    artifacts = local_folder(done.run.info.artifact_uri)
    write_json(artifacts / "report.json", done.report | {"digest": "another"})
    with pytest.raises(UserError, match="report of another comparison"):
        run()
    assert not (tmp_path / "out").exists()
