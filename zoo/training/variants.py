"""A variant of the zoo: one architecture, trained on one subset with one seed."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from filelock import FileLock, Timeout

from zoo.config import Params, TrainConfig, Variant
from zoo.data.subsets import Subset, load_subset, verify_subset
from zoo.device import parse_device
from zoo.errors import UserError
from zoo.files import code_digest, csv_text, write_text
from zoo.files.folders import FolderKind, check_replaceable, remove_folder, replacing_folder
from zoo.models.build import build, check_arch, count_outputs, count_parameters
from zoo.models.files import LoadedModel, load_model, save_model
from zoo.models.spec import SPEC, SPEC_KEYS, WEIGHTS, ModelSpec
from zoo.models.start import start_from
from zoo.processes import process_count, process_index
from zoo.progress import OnProgress, no_progress
from zoo.training.checkpoint import CHECKPOINT
from zoo.training.hardware import use_bf16
from zoo.training.loop import Callback, Trained, diverged, evaluate, telling_the_end, train

EPOCHS, STEPS = "epochs.csv", "steps.csv"
# DVC lists its outputs in a .gitignore beside them, where the project's own does not.
TRAINED = FolderKind(SPEC, SPEC_KEYS, files=(WEIGHTS, EPOCHS, STEPS, ".gitignore"))
CHECKPOINTS = FolderKind(files=(CHECKPOINT, f".{CHECKPOINT}.*"))
LOCK_SECONDS = 1  # longer than `zoo doctor` needs to see whether a lock is free
# The files that decide the weights: their change makes an older checkpoint unusable.
CODE = (
    *("config", "data/augment.py", "data/image_files.py", "data/subsets.py", "training"),
    "data/undecoded.py",
    *("models/build.py", "models/factories.py", "models/files.py", "models/local_attention.py"),
    *("models/mimetic.py", "models/modes.py", "models/preprocess.py", "models/spec.py"),
    *("models/start.py", "models/stems.py", "models/vision_network.py", "models/vit.py"),
    *("models/wrapped.py", "processes.py"),
)
LIBRARIES = ("accelerate", "numpy", "pillow", "timm", "torch", "torchvision")

logger = logging.getLogger(__name__)


def load_folder(reference: str) -> LoadedModel:
    """Load a model that lies in a folder."""
    return load_model(Path(reference))


def train_variant(
    params: Params,
    variant: Variant,
    *,
    subsets: Path,
    folder: Path,
    checkpoints: Path,
    load: Callable[[str], LoadedModel] = load_folder,
    callbacks: Callable[[str, dict[str, Any]], Sequence[Callback]] = lambda *_: (),
    on_progress: OnProgress = no_progress,
) -> dict[str, Any]:
    """Train a variant and write its folder: weights, spec, `epochs.csv`, `steps.csv`.

    Of several processes the first alone writes, is listened to and holds the lock.

    Args:
        params: the whole of params.yaml.
        variant: which one.
        subsets: folder with the subsets and the held-out splits.
        folder: is replaced by the trained model, complete or not at all.
        checkpoints: a run that was killed continues from its own folder in it.
        load: loads the model that a reference of the params stands for.
        callbacks: given the digest of the inputs and the run's settings, returns the listeners.
        on_progress: is called for every step.

    Returns:
        Metrics: test, validation and train accuracy and loss, parameters, images seen, seconds.

    Raises:
        UserError: bad params, a damaged subset, or another process is training this variant.
    """
    config = params.train_config(variant.model)
    check_arch(params.models[variant.model].arch)
    check_replaceable(folder, TRAINED)
    subset, validation, test = (
        load_subset(subsets / name) for name in (variant.subset, "validation", "test")
    )
    for part in (subset, validation, test):
        verify_subset(part)
    steps = config.steps_on(variant.subset, len(subset))
    named = params.models[variant.model].ancestors()
    ancestors = {role: load(variant.fill(reference)) for role, reference in named.items()}
    inputs = input_digest(params, variant, subset, validation, ancestors)
    # The same seed must give the same network whatever ran before in this process.
    torch.manual_seed(variant.seed)
    spec, module = _untrained(params, variant, subset, validation, test, ancestors)
    own, first = checkpoints / inputs, process_index() == 0
    checkpoints.mkdir(parents=True, exist_ok=True)
    try:
        # The lock lies beside the folder: in it, it would be removed after another process took it.
        lock = FileLock(checkpoints / f"{inputs}.lock", timeout=LOCK_SECONDS)
        with lock if first else nullcontext():
            settings = describe_run(config, steps, len(subset)) | named
            listeners = callbacks(inputs, settings) if first else ()
            with telling_the_end(listeners):
                trained = train(
                    module,
                    spec,
                    subset,
                    validation,
                    config,
                    steps=steps,
                    seed=variant.seed,
                    teacher=ancestors.get("teacher"),
                    checkpoints=own,
                    callbacks=listeners,
                    on_progress=on_progress,
                )
                metrics = _write(folder, trained, spec, config, settings, subset, validation, test)
            if first:
                remove_folder(own, CHECKPOINTS)
    except Timeout:
        raise UserError(
            f"{variant.key} is being trained by another process; wait for it to end, then run "
            "this again (it continues from where that one stopped)"
        ) from None
    return metrics


def input_digest(
    params: Params,
    variant: Variant,
    subset: Subset,
    validation: Subset,
    ancestors: Mapping[str, LoadedModel] = MappingProxyType({}),
) -> str:
    """Return a digest of all that decides the weights: a checkpoint belongs to it alone."""
    config = params.train_config(variant.model)
    inputs = {
        "train": asdict(config),
        "model": asdict(params.models[variant.model]),
        "seed": variant.seed,
        "subset": subset.info.digest,
        "validation": validation.info.digest,
        "libraries": {name: version(name) for name in LIBRARIES},
        "threads": config.threads or torch.get_num_threads(),
        "bf16": use_bf16(config.precision),
        "device": parse_device("", doubles=False),
        "processes": process_count(),
        "code": code_digest(CODE),
        "ancestors": _lineage(ancestors),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _lineage(ancestors: Mapping[str, LoadedModel]) -> dict[str, str]:
    """Say which models took part in a training, and by their digests which weights they had."""
    known = {role: model.uri for role, model in ancestors.items()}
    return known | {f"{role}_sha256": model.digest for role, model in ancestors.items()}


def _untrained(
    params: Params,
    variant: Variant,
    subset: Subset,
    validation: Subset,
    test: Subset,
    ancestors: Mapping[str, LoadedModel],
) -> tuple[ModelSpec, torch.nn.Module]:
    config, model, info = (
        params.train_config(variant.model),
        params.models[variant.model],
        subset.info,
    )
    classes, size = len(info.class_names), info.image_size
    try:
        module = build(model.arch, classes=classes, image_size=size, **model.kwargs)
        outputs = count_outputs(module, size, model.arch)
    except UserError as error:
        raise UserError(f"{variant.key}: {error}") from error
    if outputs != classes:
        raise UserError(f"{variant.key}: expected outputs for {classes} classes, got {outputs}")
    # A subset of one colour has no deviation to divide by.
    mean, std = info.mean, [max(s, 1e-3) for s in info.std]
    if not config.normalise:
        mean, std = [0.0] * 3, [1.0] * 3
    if "start" in ancestors:
        start = ancestors["start"]
        start_from(module, start)
        mean, std = start.spec.mean, start.spec.std  # its weights expect pixels of this scale
    spec = ModelSpec(
        name=variant.name,
        arch=model.arch,
        kwargs=model.kwargs,
        image_size=info.image_size,
        class_names=info.class_names,
        mean=mean,
        std=std,
        source=info.source,
        subset=variant.subset,
        subset_count=info.count,
        subset_digest=info.digest,
        validation_digest=validation.info.digest,
        test_digest=test.info.digest,
        test_count=test.info.count,
        seed=variant.seed,
        parameters=count_parameters(module),
        lineage=_lineage(ancestors),
    )
    return spec, module


def describe_run(config: TrainConfig, steps: int, images: int) -> dict[str, Any]:
    """Return a run's settings, its length in steps and passes, and how many images it sees."""
    passes, rest = divmod(steps, math.ceil(images / config.batch_size))
    return asdict(config) | {
        "epochs": passes + bool(rest),
        "steps": steps,
        "images_seen": passes * images + rest * config.batch_size,
    }


def _write(
    folder: Path,
    trained: Trained,
    spec: ModelSpec,
    config: TrainConfig,
    settings: dict[str, Any],
    subset: Subset,
    validation: Subset,
    test: Subset,
) -> dict[str, Any]:
    rated = {
        name: evaluate(trained.module, spec, part)
        for name, part in (("test", test), ("validation", validation), ("train", subset))
    }
    flat = {f"{part}/{k}": v for part, values in rated.items() for k, v in values.items()}
    if not all(math.isfinite(value) for value in flat.values()):
        raise diverged("after the last epoch", config)
    full = asdict(spec) | {
        "metrics": flat,
        "training": settings,
        "environment": trained.environment,
    }
    if process_index() == 0:
        with replacing_folder(folder, TRAINED) as new:
            save_model(new, trained.module, ModelSpec(**full))
            write_text(new / EPOCHS, csv_text(trained.epochs))
            write_text(new / STEPS, csv_text(trained.steps))
    return rated | {
        "parameters": spec.parameters,
        "steps": settings["steps"],
        "images_seen": settings["images_seen"],
        "seconds": round(trained.seconds, 1),
    }
