"""Audits in MLflow."""

from zoo.registry.audits import failed_measures, log_audit
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
