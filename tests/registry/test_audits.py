"""Audits in MLflow."""

import pytest

from zoo.registry.audits import FAILED, failed_measures, log_audit
from zoo.registry.register import register
from zoo.registry.resolve import resolve


def test_an_audit_is_a_run_that_a_comparison_of_the_same_models_finds(store, make_folder, tmp_path):
    for seed in (0, 1):
        register(store, make_folder(seed))
    models = [resolve(store, f"vit-small/{number}") for number in (1, 2)]
    assert failed_measures(store, models) == {}
    assert store.client.get_experiment_by_name("zoo-audit") is None
    folder = tmp_path / "audit"
    folder.mkdir()
    (folder / "audit.json").write_text("{}")
    row = {"question": "training", "measure": "rsa", "auprc": 0.3, "chance": 0.5, "d_prime": None}
    report = {
        "summary": "text", "failed": {"RSA": ["training"]}, "images": 8, "audit": [row]
    }  # fmt: skip
    run = log_audit(store, folder, report, models[:1])
    logged = store.client.get_run(run)
    assert logged.data.metrics == {"training/rsa/auprc": 0.3, "training/rsa/chance": 0.5}
    assert failed_measures(store, models[:1]) == {"RSA": ["training"]}
    assert failed_measures(store, models) == {}
    log_audit(store, folder, report | {"failed": {}}, models)
    assert failed_measures(store, models[:1]) == {}


@pytest.mark.parametrize("tag", ["{", "[1]", '{"RSA": 1}', "null", "[" * 5000])
def test_a_damaged_tag_is_told_and_takes_no_comparison_with_it(
    store, make_folder, tmp_path, caplog, tag
):
    register(store, make_folder(0))
    models = [resolve(store, "vit-small/1")]
    report = {"summary": "", "failed": {"RSA": ["training"]}, "images": 8, "audit": []}
    folder = tmp_path / "audit"
    folder.mkdir()
    run = log_audit(store, folder, report, models)
    store.client.set_tag(run, FAILED, tag)
    assert failed_measures(store, models) == {}
    assert "zoo.audit_failed is damaged" in caplog.text
