"""The table of analyses, in the order of the report; one file each."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from zoo.config import CompareConfig
from zoo.errors import UserError, unknown

ANALYSES = {
    "accuracy": "zoo.analyses.accuracy",
    "cka": "zoo.analyses.cka",
    "similarity": "zoo.analyses.similarity",
    "attention-maps": "zoo.analyses.attention_maps",
    "attention-distance": "zoo.analyses.attention_distance",
    "local-heads": "zoo.analyses.local_heads",
    "feature-maps": "zoo.analyses.feature_maps",
    "receptive-field": "zoo.analyses.receptive_field",
    "residuals": "zoo.analyses.residuals",
    "ablation": "zoo.analyses.ablation",
    "localisation": "zoo.analyses.localisation",
    "probes": "zoo.analyses.probes",
    "grad-cam": "zoo.analyses.grad_cam",
    "frequency": "zoo.analyses.frequency",
    "calibration": "zoo.analyses.calibration",
    "differences": "zoo.analyses.differences",
    "robustness": "zoo.analyses.robustness",
    "patch-components": "zoo.analyses.patch_components",
    "stitching": "zoo.analyses.stitching",
    "loss-geometry": "zoo.analyses.loss_geometry",
}
ON_REQUEST = ("loss-geometry",)  # too slow for every comparison


def load_analysis(name: str) -> ModuleType:
    """Import an analysis by its name."""
    if name not in ANALYSES:
        raise unknown("analysis", name, ANALYSES)
    return importlib.import_module(ANALYSES[name])


def choose_analyses(only: Sequence[str] = (), skip: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the analyses to run, in the table's order.

    Those of `ON_REQUEST` run only where `only` names them.

    Raises:
        UserError: an unknown name, or nothing is left.

    >>> choose_analyses(only=["cka", "accuracy"], skip=["accuracy"])
    ('cka',)
    """
    for name in [*only, *skip]:
        if name not in ANALYSES:
            raise unknown("analysis", name, ANALYSES)
    among = only or [name for name in ANALYSES if name not in ON_REQUEST]
    chosen = tuple(n for n in ANALYSES if n in among and n not in skip)
    if not chosen:
        raise UserError("no analysis to run: skip leaves out every one")
    return chosen


def measured_costs() -> dict[str, tuple[float, str]]:
    """Return what each analysis costs in forward passes, and when and on what it was measured."""
    found = json.loads(Path(__file__).with_name("costs.json").read_text(encoding="utf-8"))
    return {name: (of["forward_passes"], of["measured"]) for name, of in found.items()}


def check_analyses(config: CompareConfig) -> None:
    """Raise `UserError` on a choice of analyses in params.yaml that no stage could run."""
    try:
        choose_analyses(config.only, config.skip)
    except UserError as error:
        raise UserError(f"params.yaml: compare: {error}") from None
