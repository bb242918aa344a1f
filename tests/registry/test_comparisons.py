import json
from pathlib import Path

import pytest
from PIL import Image

from zoo.errors import UserError
from zoo.files import write_json, write_text
from zoo.registry.artifacts import local_folder
from zoo.registry.comparisons import (
    fetch_comparison,
    find_comparison,
    log_comparison,
    update_comparison,
)
from zoo.registry.register import register
from zoo.registry.resolve import resolve
from zoo.registry.runs import search_runs
from zoo.registry.store import COMPARE, TRAIN

DIGEST = "c" * 64


def metric(analysis, measure, *networks, value, directed=False):
    a, b = (*networks, "", "")[:2]
    return {
        "analysis": analysis, "measure": measure, "label": measure, "network": a, "network_b": b,
        "value": value, "directed": directed,
    }  # fmt: skip


@pytest.fixture
def models(store, make_folder):
    register(store, make_folder(0))
    register(store, make_folder(1, name="vit-full"))
    return [resolve(store, "vit-small"), resolve(store, "vit-full")]


@pytest.fixture
def report() -> dict:
    return {
        "digest": DIGEST,
        "settings": {"batch_size": 60, "layers": "blocks"},
        "looks": "1",
        "images": {"count": 12, "digest": "d" * 64, "source": "digits", "split": "test"},
        "models": [{"name": "vit-small"}, {"name": "vit-full"}],
        "networks": [
            {"name": "vit-small", "model": "vit-small", "state": "trained", "seed": 0},
            {"name": "vit-full", "model": "vit-full", "state": "trained", "seed": 1},
            {"name": "vit-small untrained", "model": "vit-small", "state": "initial", "seed": 0},
            {"name": "vit-small seed 5", "model": "vit-small", "state": "trained", "seed": 5},
        ],
        "analyses": [
            {"name": "cka", "figures": [{"file": "cka"}]},
            {"name": "accuracy", "figures": []},
        ],
        "metrics": [
            metric("cka", "mean_all_pairs", "vit-small", "vit-full", value=0.5),
            metric("accuracy", "accuracy", "vit-small", value=0.25),
            metric("accuracy", "accuracy", "vit-full", value=0.75),
            metric("accuracy", "accuracy", "vit-small untrained", value=0.125),
            metric("cka", "mean_all_pairs", "vit-small", "vit-small seed 5", value=0.9),
        ],
        "summary": "They <b>differ</b> | a lot.",
        "claims": [
            {
                "id": "R-uniform",
                "statement": "ViTs are uniform",
                "models": ["vit-small"],
                "value": 0.2,
                "verdict": "supported",
                "p_holm": 0.0004,
                "before": {"value": 0.3, "low": 0.2, "high": 0.4, "detail": ""},
            },
            {
                "id": "R-mixer",
                "statement": "A Mixer is like a ViT",
                "models": [],
                "value": None,
                "verdict": "not applicable",
                "p_holm": None,
                "before": None,
            },
        ],
    }


@pytest.fixture
def folder(tmp_path, report) -> Path:
    folder = tmp_path / "comparison"
    write_json(folder / "report.json", report)
    write_text(folder / "report.html", "<p>report</p>")
    write_text(folder / "results.nc", "results")
    write_text(folder / "figures" / "cka.svg", "<svg/>")
    Image.new("RGB", (2, 2)).save(folder / "figures" / "cka.png")
    return folder


def test_a_comparison_is_found_again_with_everything_in_it(store, folder, report, models):
    assert find_comparison(store, DIGEST) is None
    logged = log_comparison(store, folder, report, models)
    found = find_comparison(store, DIGEST)
    assert found.info.run_id == logged.info.run_id
    run = store.client.get_run(found.info.run_id)
    assert run.info.run_name == f"vit-small,full {DIGEST[:4]}"
    assert run.info.status == "FINISHED"
    assert run.data.params["layers"] == "blocks"
    assert run.data.params["model.0"] == "models:/vit-small/1"
    assert run.data.metrics == {
        "cka/mean_all_pairs": 0.5,
        "cka/mean_all_pairs/a-a.seed5": 0.9,
        "accuracy/accuracy/a": 0.25,
        "accuracy/accuracy/b": 0.75,
        "accuracy/accuracy/a.untrained": 0.125,
        "accuracy/accuracy": 0.75,  # of both models, a step each
        "claims/R-uniform/a": 0.2,
        "claims/R-uniform/a/untrained": 0.3,
    }
    tags = run.data.tags
    title = f"vit-small/1 vs vit-full/1: cka, accuracy on 12 images ({DIGEST[:6]})"
    assert tags["zoo.comparison"] == title
    assert (tags["zoo.model.1.name"], tags["zoo.model.1.version"]) == ("vit-full", "1")
    assert tags["zoo.model.0.run_id"] == models[0].run_id
    assert {m.model_id for m in run.inputs.model_inputs} == {m.model_id for m in models}
    ((images, context),) = [(i.dataset, i.tags[0].value) for i in run.inputs.dataset_inputs]
    assert (images.name, images.digest, context) == ("digits/test", "d" * 36, "evaluation")


def test_a_comparison_lasts_as_long_as_it_took_to_compute(store, folder, report, models):
    logged = log_comparison(store, folder, report, models, seconds=3600)
    info = store.client.get_run(logged.info.run_id).info
    assert 3_600_000 <= info.end_time - info.start_time < 3_700_000


def test_mlflow_ranks_models_by_what_was_measured_on_a_data_set(
    store, folder, report, models, make_folder
):
    log_comparison(store, folder, report, models)

    def ranked(measure, **data):
        found = store.client.search_logged_models(
            [store.experiment_id(TRAIN)],
            datasets=[data],
            order_by=[{"field_name": f"metrics.{measure}", "ascending": False} | data],
        )
        return [model.model_id for model in found]

    small, full = (model.model_id for model in models)
    compared = {"dataset_name": "digits/test", "dataset_digest": "d" * 36}
    assert ranked("accuracy/accuracy", **compared) == [full, small]
    assert ranked("accuracy/accuracy", **compared | {"dataset_digest": "e" * 36}) == []
    # What training measured on the test split, too.
    best = make_folder(2, metrics={"test/accuracy": 0.9, "validation/accuracy": 0.1})
    version = register(store, best).version
    best = resolve(store, f"vit-small/{version}").model_id
    tested = {"dataset_name": "digits/test", "dataset_digest": "7" * 36}
    assert ranked("weights/test/accuracy", **tested)[0] == best
    assert set(ranked("weights/test/accuracy", **tested)) == {best, small, full}


def test_one_that_was_drawn_again_has_its_page_and_claims_in_mlflow_too(
    store, folder, report, models
):
    logged = log_comparison(store, folder, report, models)
    assert logged.data.tags["zoo.looks"] == "1"
    claim = report["claims"][0]
    report |= {"looks": "2", "claims": [claim | {"value": 0.4, "verdict": "not supported"}]}
    write_json(folder / "report.json", report)
    write_text(folder / "report.html", "<p>drawn again</p>")
    update_comparison(store, logged, folder, report, models)
    run = find_comparison(store, DIGEST)
    assert (run.info.run_id, run.data.tags["zoo.looks"]) == (logged.info.run_id, "2")
    page = local_folder(run.info.artifact_uri) / "report.html"
    assert page.read_text() == "<p>drawn again</p>"
    assert run.data.metrics["claims/R-uniform/a"] == 0.4
    assert "| 0.400 | not supported |" in run.data.tags["mlflow.note.content"]


def test_its_description_shows_text_as_text(store, folder, report, models):
    found = log_comparison(store, folder, report, models)
    note = store.client.get_run(found.info.run_id).data.tags["mlflow.note.content"]
    assert "They &lt;b&gt;differ&lt;/b&gt; \\| a lot." in note
    assert "| ViTs are uniform | vit-small | 0.200 | supported | <0.001 |" in note
    assert "Mixer" not in note


def test_its_description_says_which_model_a_metric_is_of_and_links_its_version(
    store, folder, report, models
):
    found = log_comparison(store, folder, report, models)
    run = store.client.get_run(found.info.run_id)
    for place, (letter, model) in enumerate(zip("ab", models, strict=True)):
        link = f"[1](#/models/{model.name}/versions/1?workflowType=machine_learning)"
        row = f"| {letter} | {model.name} | {link} | {model.digest[:12]} |"
        assert row in run.data.tags["mlflow.note.content"]
        accuracy = report["metrics"][1 + place]
        assert accuracy["network"] == model.name
        assert run.data.metrics[f"accuracy/accuracy/{letter}"] == accuracy["value"]


def test_a_long_description_ends_with_a_whole_row(store, folder, report, models):
    claim = report["claims"][0]
    report["claims"] = [claim | {"statement": f"{i} {'x' * 90}"} for i in range(60)]
    found = log_comparison(store, folder, report, models)
    note = store.client.get_run(found.info.run_id).data.tags["mlflow.note.content"]
    assert "Open `report.html`" in note
    assert note.endswith("| <0.001 |")


def rows_of(names):
    """Every kind of metric, of networks with these names: a number of their positions each."""
    rows = [metric("cka", "batches", value=0.0)]
    for i, a in enumerate(names, 1):
        rows.append(metric("accuracy", "accuracy", a, value=float(i)))
        rows.append(metric("cka", "mean_all_pairs", a, f"{a} untrained", value=float(100 + i)))
        for j, b in enumerate(names, 1):
            if i < j:
                rows.append(metric("cka", "mean_all_pairs", a, b, value=float(10 * i + j)))
            if i != j:
                best = metric(
                    "cka", "mean_best_match", a, b, value=float(10 * i + j), directed=True
                )
                rows.append(best)
    return rows


NAMES = ["a", "b", "a__b", "a/b", "a+b", "..", "../../c", "a//b", "x\ny\0", "ü 模", "x" * 240]


def test_metrics_are_named_by_position_whatever_the_networks_are_called(
    store, folder, report, models
):
    logged = {}
    for names in ([f"m{i}" for i in range(len(NAMES))], NAMES):
        report["models"] = [{"name": name} for name in names]
        report["networks"] = [
            {"name": f"{name} untrained", "model": name, "state": "initial", "seed": 0}
            for name in names
        ]
        report["metrics"], report["claims"] = rows_of(names), []
        found = log_comparison(store, folder, report, models, force=True)
        logged[names[0]] = store.client.get_run(found.info.run_id).data.metrics
    assert logged["a"] == logged["m0"]
    assert logged["a"]["accuracy/accuracy/d"] == 4
    assert logged["a"]["cka/mean_all_pairs/b-k"] == 2 * 10 + 11
    assert logged["a"]["cka/mean_best_match/d-b"] == 42
    assert logged["a"]["cka/batches"] == 0
    assert logged["a"]["cka/mean_all_pairs/d-d.untrained"] == 104
    # One of the comparison, of networks before training, and each model's own under one name.
    assert len(logged["a"]) == 1 + 11 + 11 + 55 + 110 + 1


def test_what_two_networks_have_together_has_one_name_and_each_direction_its_own(
    store, folder, report, models
):
    report["metrics"], report["claims"] = rows_of(["vit-small", "vit-full"]), []
    run = log_comparison(store, folder, report, models)
    assert run.data.metrics == {
        "cka/batches": 0, "cka/mean_all_pairs": 12,
        "cka/mean_best_match/a-b": 12, "cka/mean_best_match/b-a": 21,
        "accuracy/accuracy/a": 1, "accuracy/accuracy/b": 2, "accuracy/accuracy": 2,
        "cka/mean_all_pairs/a-a.untrained": 101,
    }  # fmt: skip


def test_logged_again_it_is_the_same_run(store, folder, report, models):
    first = log_comparison(store, folder, report, models)
    assert log_comparison(store, folder, report, models).info.run_id == first.info.run_id
    assert len(search_runs(store, COMPARE)) == 1


def test_forced_it_takes_the_place_of_the_old_one(store, folder, report, models):
    first = log_comparison(store, folder, report, models)
    second = log_comparison(store, folder, report, models, force=True)
    assert second.info.run_id != first.info.run_id
    assert find_comparison(store, DIGEST).info.run_id == second.info.run_id
    assert len(search_runs(store, COMPARE)) == 1


def test_what_a_killed_process_left_is_never_shown_as_done(
    store, folder, report, models, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(store.client, "log_artifacts", _killed)
        patch.setattr(store.client, "delete_run", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            log_comparison(store, folder, report, models)
    assert [run.info.status for run in search_runs(store, COMPARE)] == ["RUNNING"]
    assert find_comparison(store, DIGEST) is None
    log_comparison(store, folder, report, models)
    assert [run.info.status for run in search_runs(store, COMPARE)] == ["FINISHED"]


def _killed(*_):
    raise KeyboardInterrupt


def test_an_error_while_logging_leaves_no_run(store, folder, report, models, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.client, "log_artifacts", full)
    with pytest.raises(OSError, match="No space left"):
        log_comparison(store, folder, report, models)
    assert search_runs(store, COMPARE) == []


def test_one_whose_report_or_results_are_gone_is_not_found(store, folder, report, models):
    found = log_comparison(store, folder, report, models)
    results = local_folder(found.info.artifact_uri) / "results.nc"
    kept = results.rename(results.with_name("elsewhere"))
    assert find_comparison(store, DIGEST) is None
    kept.rename(results)
    assert find_comparison(store, DIGEST).info.run_id == found.info.run_id
    (local_folder(found.info.artifact_uri) / "report.json").unlink()
    assert find_comparison(store, DIGEST) is None
    with pytest.raises(UserError, match=r"report\.json is missing"):
        fetch_comparison(store, found, folder.parent / "copy")
    assert not (folder.parent / "copy").exists()


def test_the_whole_folder_comes_back(store, folder, report, models):
    copy, run = folder.parent / "copy", log_comparison(store, folder, report, models)
    assert fetch_comparison(store, run, copy) == report
    assert json.loads((copy / "report.json").read_text()) == report
    assert (copy / "results.nc").read_text() == "results"
    assert (copy / "figures" / "cka.svg").read_text() == "<svg/>"


def test_no_figure_comes_back_that_the_report_does_not_name(store, folder, report, models):
    found = log_comparison(store, folder, report, models)
    figures = local_folder(found.info.artifact_uri) / "figures"
    (figures / "foreign.png").write_bytes(b"0")
    (figures / "more").mkdir()
    fetch_comparison(store, found, folder.parent / "copy")
    copied = {path.name for path in (folder.parent / "copy" / "figures").iterdir()}
    assert copied == {"cka.png", "cka.svg"}
    strange = report | {"analyses": [{"name": "cka", "figures": [{"file": "../report"}]}]}
    write_json(local_folder(found.info.artifact_uri) / "report.json", strange)
    with pytest.raises(UserError, match="expected a plain file name"):
        fetch_comparison(store, found, folder.parent / "other")


def test_models_from_folders_can_be_compared_too(store, folder, report, make_folder):
    local = resolve(None, str(make_folder()))
    found = log_comparison(store, folder, report, [local])
    tags = store.client.get_run(found.info.run_id).data.tags
    assert "zoo.model.0.version" not in tags
    assert tags["zoo.model.0.sha256"] == local.digest
