"""`zoo audit`: what it prints, writes and logs, and what a comparison then says."""

import json

import pytest
import torch

from zoo.data.subsets import load_subset
from zoo.models.files import save_model
from zoo.registry.register import register
from zoo.registry.store import open_store


@pytest.fixture
def seeds(project, make_model, digits_folder):
    """Two variants, each with two registered seeds that are not their starts."""
    store = open_store(project)
    digest = load_subset(digits_folder / "test").info.digest
    for arch in ("vit", "resnet18"):
        for seed in (0, 1):
            model = make_model(
                arch, f"{arch}-small", seed=seed, source="digits", subset="small",
                subset_count=40, subset_digest="d" * 64, test_digest=digest,
            )  # fmt: skip
            with torch.no_grad():
                for parameter in model.module.parameters():
                    parameter.mul_(1.1)
            folder = project / "models" / f"{arch}-{seed}"
            save_model(folder, model.module, model.spec)
            register(store, folder, test_folder=digits_folder / "test")
    return store


def test_it_says_which_map_to_trust_and_a_comparison_names_what_failed(zoo, seeds, project):
    printed = zoo("audit", "--images", "24", "--batch-size", "12")
    assert printed.startswith("Of 9 measures, trust the map of ")
    assert "linear CKA" in printed
    report = json.loads((project / "reports" / "audit" / "audit.json").read_text())
    assert [m["name"] for m in report["models"]] == ["resnet18-small"] * 2 + ["vit-small"] * 2
    assert len(report["audit"]) == 18
    (run,) = seeds.client.search_runs([seeds.experiment_id("zoo-audit")])
    run = seeds.client.get_run(run.info.run_id)
    assert len(run.inputs.model_inputs) == 4
    assert run.data.metrics["architecture/cka/auprc"] == report["audit"][0]["auprc"]
    compared = json.loads(zoo(
        "compare", "vit-small", "resnet18-small", "--only", "accuracy", "--images", "24", "--json"
    ))  # fmt: skip
    said = " ".join(compared["cautions"])
    assert ("In an audit of these models" in said) == bool(report["failed"])
    assert "Seeds: vit-small 2, resnet18-small 2." in said
    one = json.loads(zoo(
        "compare", "vit-small", "resnet18-small", "--only", "accuracy", "--images", "24", "--json",
        "--one-seed", "--out", "one",
    ))  # fmt: skip
    assert one["seeds"] == []


def test_too_few_seeds_are_told(zoo, registered):
    assert "no registered model has two or more seeds" in zoo("audit", status=2)
    error = zoo("audit", "vit-small", "vit-gap-small", status=2)
    assert "got vit-small (1), vit-gap-small (1)" in error
