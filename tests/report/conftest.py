"""A saved comparison of two tiny models, as the report reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tests.report.page import Page, render_folder
from zoo.analyses.engine import analyse
from zoo.comparison import Comparison
from zoo.config import Settings
from zoo.files import write_json
from zoo.models.build import build, count_parameters
from zoo.models.files import LoadedModel
from zoo.models.spec import ModelSpec
from zoo.study.identity import provenance
from zoo.study.prepare import prepare_study

ANALYSES = ("cka", "attention-maps", "feature-maps")
TINY_VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}
CLAIMS = [
    {
        "id": "R-uniform",
        "paper": "Raghu et al. 2021",
        "figure": "1",
        "statement": "A ViT's layers are more alike across depth than a CNN's",
        "analysis": "cka",
        "measured_as": "mean CKA of different layers, ViT minus CNN",
        "threshold": "above 0",
        "models": ["vit-small", "resnet18-small"],
        "value": 0.1234,
        "n": 64,
        "verdict": "supported",
        "detail": "0.62 against 0.50",
        "low": 0.1,
        "high": 0.15,
        "counted": "6 to 9 of 64",
        "p": 0.0004,
        "p_holm": 0.02,
        "reason": "training moved it this way",
        "over": "seeds",
        "seeds": [2, 3],
        "before": {"value": 0.0625, "low": 0.05, "high": 0.075, "detail": ""},
        "change": {"value": 0.061, "low": 0.04, "high": 0.08},
    },
    {
        "id": "Z-accuracy",
        "paper": "Zhu et al. 2023",
        "figure": "table of accuracies",
        "statement": "On little data a CNN is more accurate than a ViT of similar size",
        "analysis": "accuracy",
        "measured_as": "accuracy of the CNN minus that of the ViT",
        "threshold": "above 0",
        "models": ["vit-small", "resnet18-small"],
        "value": -0.03,
        "n": 64,
        "verdict": "not supported",
        "detail": "interval -0.14 to 0.08",
        "low": -0.14,
        "high": -0.01,
        "p": None,
        "p_holm": None,
        "reason": "on the other side",
        "over": "images",
        "seeds": [],
        "before": None,
        "change": None,
    },
    {
        "id": "R-mixer",
        "paper": "Raghu et al. 2021",
        "figure": "H.1, H.2",
        "statement": "Mixer is more like ViT than like ResNet",
        "analysis": "cka",
        "measured_as": "mean CKA with the ViT minus that with the ResNet",
        "threshold": "above 0",
        "models": [],
        "value": None,
        "n": 64,
        "verdict": "not applicable",
        "detail": "needs an MLP-Mixer",
        "low": None,
        "high": None,
        "p": None,
        "p_holm": None,
        "reason": "",
        "over": "images",
        "seeds": [],
        "before": None,
        "change": None,
    },
]


def tiny_model(arch: str, name: str, **kwargs: Any) -> LoadedModel:
    torch.manual_seed(0)
    module = build(arch, classes=10, image_size=16, **kwargs)
    spec = ModelSpec(
        name=name,
        arch=arch,
        image_size=16,
        class_names=[str(digit) for digit in range(10)],
        mean=[0.5] * 3,
        std=[0.5] * 3,
        kwargs=kwargs,
        source="digits",
        subset="small",
        subset_count=100,
        parameters=count_parameters(module),
        metrics={"test/accuracy": 0.8125, "train/accuracy": 0.9375},
        training={"epochs": 20, "batch_size": 50, "optimizer": "adam", "learning_rate": 0.001},
    )
    return LoadedModel(name, module, spec, digest="0123456789abcdef" * 4, uri=f"models:/{name}/3")


def digit_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return handwritten digits as 16-pixel images, and what they show."""
    digits = load_digits()
    grey = (digits.images[:count] * 15).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    return np.repeat(grey[..., None], 3, axis=3), digits.target[:count].astype(np.int64)


def save_comparison(
    folder: Path,
    names: tuple[str, str] = ("vit-small", "resnet18-small"),
    analyses: tuple[str, ...] = ANALYSES,
) -> Path:
    """Compare a ViT and a ResNet, and save it with claims and a reason that are made up."""
    models = [tiny_model("vit", names[0], **TINY_VIT), tiny_model("resnet18", names[1])]
    images, labels = digit_images(64)
    settings = Settings(batch_size=32, references=False, shown_images=2)
    classes = models[0].spec.class_names
    study = prepare_study(models, images, labels, classes, (), settings, torch.device("cpu"))
    known = provenance(
        models,
        study,
        digest="fedcba9876543210" * 4,
        images_digest="89abcdef" * 8,
        source="digits",
        command=f"zoo compare {' '.join(names)}",
    ) | {"created": "2026-11-20T14:03:00+00:00"}
    report = Comparison(replace(analyse(study, analyses), provenance=known)).save(folder)
    report["claims"] = CLAIMS
    report["not_applicable"]["grad-cam"] = "needs the images' labels"
    write_json(folder / "report.json", report)
    return folder


@pytest.fixture(scope="session")
def saved_comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that no test may change."""
    return save_comparison(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="session")
def text(saved_comparison: Path) -> str:
    """The page of a comparison."""
    return render_folder(saved_comparison)


@pytest.fixture(scope="session")
def page(text: str) -> Page:
    """The same, taken apart."""
    return Page(text)


@pytest.fixture(scope="session")
def write_comparison() -> Callable[..., Path]:
    """Save another comparison: (folder, names, analyses) -> folder."""
    return save_comparison


@pytest.fixture
def comparison(saved_comparison: Path, tmp_path: Path) -> Path:
    """A comparison of a test's own, to damage."""
    shutil.copytree(saved_comparison, tmp_path / "comparison")
    return tmp_path / "comparison"


@pytest.fixture
def change_report(comparison: Path) -> Callable[[Callable[[dict], None]], Path]:
    """Let a test change report.json; return the folder."""

    def change(edit: Callable[[dict], None]) -> Path:
        path = comparison / "report.json"
        report = json.loads(path.read_text())
        edit(report)
        path.write_text(json.dumps(report))
        return comparison

    return change
