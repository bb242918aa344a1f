"""What a comparison may count on: its own folder whole, and siblings that are there."""

import dataclasses
import itertools
import shutil
from types import SimpleNamespace

import pytest

from tests.registry.conftest import write_split
from zoo.comparison import PARTS
from zoo.config import Settings
from zoo.errors import UserError
from zoo.files import read_json, write_json, write_text
from zoo.registry import compare
from zoo.registry.artifacts import local_folder
from zoo.registry.comparisons import find_comparison
from zoo.registry.register import register
from zoo.registry.resolve import fetch_model, resolve
from zoo.registry.seeds import other_seeds
from zoo.study.identity import looks


@pytest.fixture
def models(store, make_folder):
    """Two models, each with two siblings of other seeds."""
    for name in ("vit-small", "vit-full"):
        for seed in (0, 1, 2):
            register(store, make_folder(seed, name=name))
    first = [resolve(store, f"{name}/1") for name in ("vit-small", "vit-full")]
    # As if each were the current version of a name that was asked for.
    return [dataclasses.replace(model, reference=model.name) for model in first]


@pytest.fixture
def ask(store, models, tmp_path, test_split, monkeypatch):
    """Compare with a comparison that computes nothing, and count how often it did."""
    computed = []

    def answer(question, _):
        known = {"zoo_version": "", "digest": question.digest, "images": {"count": 4}}
        report = known | {"models": [], "analyses": [], "looks": looks()}
        computed.append(question.siblings)

        def save(folder, _):
            write_json(folder / "report.json", report)
            write_text(folder / "report.html", "<p>report</p>")
            write_text(folder / "results.nc", "results")
            (folder / "figures").mkdir(exist_ok=True)
            return report

        return SimpleNamespace(save=save)

    monkeypatch.setattr(compare._Question, "answer", answer)

    def ask(**known):
        return compare.compare_registered(store, models, tmp_path / "out", data=test_split, **known)

    return ask, computed


@pytest.mark.parametrize(
    ("name", "content"), [("report.html", "<p>report</p>"), ("results.nc", "results")]
)
def test_a_comparison_of_which_a_file_is_gone_is_fetched_again(ask, tmp_path, name, content):
    ask, computed = ask
    assert not ask().found
    (tmp_path / "out" / name).unlink()
    again = ask()
    assert again.found
    assert (again.folder / name).read_text() == content
    assert len(computed) == 1


def test_one_that_is_gone_in_the_registry_too_is_computed_again(ask, tmp_path):
    ask, computed = ask
    kept = local_folder(ask().run.info.artifact_uri)
    for folder in (kept, tmp_path / "out"):
        (folder / "report.html").unlink()
    again = ask()
    assert not again.found
    assert (again.folder / "report.html").is_file()
    assert len(computed) == 2


def test_a_report_that_is_none_of_ours_or_damaged_is_kept(ask, tmp_path):
    ask, computed = ask
    ask()
    for content, force in itertools.product(["[]", "7", "{", "\x00"], [False, True]):
        (tmp_path / "out" / "report.json").write_text(content)
        with pytest.raises(
            UserError, match=r"report\.json is missing, damaged or written by another"
        ):
            ask(force=force)
        assert (tmp_path / "out" / "report.json").read_text() == content
    shutil.rmtree(tmp_path / "out")
    assert ask().found
    assert len(computed) == 1


def test_one_whose_page_has_changed_is_drawn_again_once_and_in_mlflow_too(ask, monkeypatch):
    ask, computed = ask
    run, drawn = ask().run, []

    def redraw(folder):
        drawn.append(folder)
        report = read_json(folder / "report.json") | {"looks": "new"}
        write_json(folder / "report.json", report)
        write_text(folder / "report.html", "<p>new</p>")
        return report

    monkeypatch.setattr(compare, "looks", lambda: "new")
    monkeypatch.setattr(compare, "redraw", redraw)
    for _ in range(2):
        again = ask()
        assert (again.found, again.report["looks"]) == (True, "new")
        assert again.run.info.run_id == run.info.run_id
        page = local_folder(run.info.artifact_uri) / "report.html"
        assert page.read_text() == "<p>new</p>"
    shutil.rmtree(again.folder)  # as in the project of somebody else
    assert (ask().folder / "report.html").read_text() == "<p>new</p>"
    assert (len(drawn), len(computed)) == (1, 1)


def test_fewer_images_are_another_comparison_with_a_digest_of_their_own(ask):
    ask, computed = ask
    assert ask(count=8).report["digest"] != ask().report["digest"]
    assert ask(count=100).found  # there are twelve
    assert len(computed) == 2


def test_a_sibling_whose_files_are_lost_is_left_out(ask, store, models, caplog):
    ask, computed = ask
    (_, first), *others = other_seeds(store, models)
    assert [(i, m.name, m.version) for i, m in others] == [
        (0, "vit-small", 3),
        (1, "vit-full", 2),
        (1, "vit-full", 3),
    ]
    shutil.rmtree(fetch_model(store, first))
    ask()
    assert computed[0] == others
    assert f"vit-small version {first.version}, another seed, is left out: " in caplog.text


def test_a_model_that_is_asked_for_and_lost_is_told(store, models):
    shutil.rmtree(fetch_model(store, models[0]))
    with pytest.raises(UserError, match="register it again where it was trained"):
        other_seeds(store, models)


def test_siblings_that_are_given_are_taken_whatever_the_registry_holds(ask, store, make_folder):
    ask, computed = ask
    given = [(0, resolve(store, "vit-small/3"))]
    first = ask(siblings=given).report["digest"]
    register(store, make_folder(3))
    assert ask(siblings=given).found
    assert computed == [given]
    without = ask(siblings=given, settings=Settings(references=False)).report["digest"]
    assert without == ask(siblings=[], settings=Settings(references=False)).report["digest"]
    assert without != first


def test_progress_is_told_of_every_part_to_its_end(store, models, test_split, tmp_path):
    told = []
    compare.compare_registered(
        store, models, tmp_path / "out", data=test_split, only=["accuracy", "residuals"],
        on_progress=lambda *said: told.append(said),
    )  # fmt: skip
    by_part = {part: [said for said in told if said[2] == part] for _, _, part in told}
    assert list(by_part) == list(PARTS)
    for said in by_part.values():
        assert said == sorted(said)
        assert said[-1][0] == said[-1][1]
        assert len({total for _, total, _ in said}) == 1
    assert told == [said for part in by_part.values() for said in part]


def test_images_that_a_model_was_trained_on_are_told(store, make_folder, test_split, tmp_path):
    small = tmp_path / "data" / "subsets" / "small"
    small.parent.mkdir(parents=True)
    digest = write_split(small, 12, 1).digest
    write_json(small / "subset.json", read_json(small / "subset.json") | {"name": "small"})
    register(store, make_folder(name="vit-small", subset_digest=digest))
    register(store, make_folder(1, name="vit-other", subset_digest="0" * 64))
    models = [resolve(store, name) for name in ("vit-other", "vit-small")]

    def told(data):
        done = compare.compare_registered(
            store, models, tmp_path / "out", data=data, count=8, only=["accuracy"]
        )
        return [said for said in done.report["cautions"] if "was trained on" in said]

    assert told(small) == [
        "vit-small was trained on 8 of these 8 images: on new ones it may do worse."
    ]
    assert told(test_split) == []


def test_an_emptied_registry_gets_its_comparisons_back(store, models, ask, tmp_path, caplog):
    ask, _ = ask
    first = ask().run
    report = read_json(tmp_path / "out" / "report.json")
    known = [{"name": model.name, "digest": model.digest} for model in models]
    write_json(tmp_path / "out" / "report.json", report | {"models": known, "analyses": []})
    assert compare.restore_comparisons(store, tmp_path) == []
    store.client.delete_run(first.info.run_id)
    assert compare.restore_comparisons(store, tmp_path) == ["out"]
    again = find_comparison(store, report["digest"])
    tags = again.data.tags
    assert [tags[f"zoo.model.{i}.sha256"] for i in (0, 1)] == [model.digest for model in models]
    assert compare.restore_comparisons(store, tmp_path) == []
    store.client.delete_run(again.info.run_id)
    known[0]["digest"] = "0" * 64
    write_json(tmp_path / "out" / "report.json", report | {"models": known})
    assert compare.restore_comparisons(store, tmp_path) == []
    assert "is not logged again" in caplog.text
