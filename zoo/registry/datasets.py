"""Datasets in MLflow: what models were trained on, and what metrics were measured on.

A metric that names its dataset can rank models: `mlflow.search_logged_models(datasets=...)`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from zoo.models.spec import ModelSpec

DIGEST_LENGTH = 36  # characters; MLflow's column holds no more


def dataset(source: str, split: str, digest: str, count: int = 0) -> Dataset:
    """Return a split of a source, such as `digits/test`; a `count` of 0 means unknown.

    MLflow keeps only the beginning of `digest`, the sha256 of images, labels and class names.
    """
    profile = json.dumps({"num_rows": count}) if count else None
    where = json.dumps({"tags": {"source": source, "split": split, "sha256": digest}})
    return Dataset(f"{source}/{split}", digest[:DIGEST_LENGTH], "code", where, profile=profile)


def dataset_input(data: Dataset, context: str) -> DatasetInput:
    """Return a dataset as a run's input; `context` says what the run used it for."""
    return DatasetInput(data, [InputTag("mlflow.data.context", context)])


def training_data(spec: ModelSpec) -> dict[str, Dataset]:
    """Return what a model was trained and tested on, by the prefix of its metrics' names."""
    known = {
        "train": (spec.subset, spec.subset_digest, spec.subset_count),
        "validation": ("validation", spec.validation_digest, 0),
        "test": ("test", spec.test_digest, spec.test_count),
    }
    return {
        part: dataset(spec.source, split, digest, count)
        for part, (split, digest, count) in known.items()
        if digest
    }


def compared_data(report: Mapping[str, Any]) -> Dataset | None:
    """Return the images of a comparison, if the report names them."""
    images = report.get("images", {})
    if not images.get("digest"):
        return None
    split = images.get("split") or "images"
    return dataset(images.get("source", ""), split, images["digest"], images.get("count", 0))
