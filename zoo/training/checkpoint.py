"""What a killed run continues from: tensors and progress, in one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from zoo.errors import UserError
from zoo.files import write_bytes

CHECKPOINT = "checkpoint.safetensors"
Row = dict[str, float]
Tensors = dict[str, torch.Tensor]


@dataclass
class Progress:
    """What a checkpoint keeps beside tensors."""

    epochs: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(folder: Path, groups: Mapping[str, Tensors], progress: Progress) -> None:
    """Write named groups of tensors and the progress, atomically."""
    tensors = {
        f"{group}.{key}": value.detach().cpu().contiguous().clone()
        for group, members in groups.items()
        for key, value in members.items()
    }
    metadata = {"progress": json.dumps(dataclasses.asdict(progress))}
    write_bytes(folder / CHECKPOINT, save(tensors, metadata=metadata))


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensors], Progress] | None:
    """Return what `save_checkpoint` wrote; None where there is none, `UserError` where damaged."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    groups: dict[str, Tensors] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                group, _, key = name.partition(".")
                groups.setdefault(group, {})[key] = file.get_tensor(name)
            progress = Progress(**json.loads((file.metadata() or {})["progress"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it to train anew") from None
    return groups, progress


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return an optimizer's state as `<parameter>.<entry>`."""
    return {
        f"{index}.{key}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Give an optimizer the state that `optimizer_tensors` returned."""
    state: dict[int, Tensors] = {}
    for key, value in tensors.items():
        index, _, entry = key.partition(".")
        state.setdefault(int(index), {})[entry] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
