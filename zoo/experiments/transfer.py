"""A trained model on another source of images (Raghu et al. 2021, Fig. G.1).

Its classifier is replaced and it is trained on: the whole of it (fine-tuning), or the new
classifier alone. What has become of each layer is measured by CKA with what it was before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.analyses.engine import compare_models
from zoo.analyses.same_layer_cka import SameLayers, same_layers
from zoo.config import Settings, TrainConfig
from zoo.data.build import build_subsets
from zoo.data.sources import Source
from zoo.data.subsets import Subset, load_subset
from zoo.experiments.classifiers import ClassifierAlone, classifier_inputs, with_new_classifier
from zoo.measures.depth import thirds
from zoo.measures.ridge import ridge_probe
from zoo.measures.sampling import balanced_order
from zoo.models.build import count_parameters
from zoo.models.files import LoadedModel
from zoo.models.untrained import untrained_network
from zoo.progress import OnProgress, no_progress
from zoo.training.loop import Row, Trained, evaluate, train
from zoo.training.variants import describe_run

PARTS = ("train", "validation", "test")
MAX_TEST = 2048
VALIDATION = 0.1
SMALL_SIDE = 64  # pixels; images are stored larger than they come up to here only


@dataclass(frozen=True)
class Accuracies:
    """Share of right test images.

    `probe_before` and `probe_after`: a linear probe of what the classifier sees, before and
    after; `after`: the network itself; `most_common`: always saying the most common class.
    None where a probe could not be fitted.
    """

    probe_before: float | None
    probe_after: float | None
    after: float
    most_common: float


@dataclass(frozen=True)
class Transferred:
    """The model on its new source, and what has changed.

    `kept` is the CKA of each layer before with the same layer after, `untrained` that of an
    untrained network with it after; `blocks` are positions in their layers; `epochs` and `steps`
    are the history of training; `counts` the images of each part of the data.
    """

    before: LoadedModel
    model: LoadedModel
    family: str
    kept: SameLayers
    untrained: SameLayers
    accuracies: Accuracies
    epochs: list[Row]
    steps: list[Row]
    counts: dict[str, int]
    notes: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """Scalars as `transfer/<name>/<what>`; what could not be measured is left out."""
        rated = dataclasses.asdict(self.accuracies)
        found = {f"accuracy/{k}": v for k, v in rated.items() if v is not None}
        for name, same in (("kept", self.kept), ("untrained", self.untrained)):
            found |= {f"{name}/{k}": v for k, v in thirds(same.cka, same.blocks).items()}
        return {f"transfer/{self.model.name}/{what}": value for what, value in found.items()}


def prepare_data(
    source: Source, folder: Path, *, image_size: int, count: int | None = None, seed: int = 0
) -> None:
    """Write the subsets `train`, `validation` and `test` of a source.

    Args:
        source: where the images come from.
        folder: gets a folder for each.
        image_size: side of the model's input in pixels. Images are stored at that size, or at
            their own where that is smaller but at least 64 pixels.
        count: images to train on, class-balanced; by default all but a tenth, for validation.
        seed: of the choice.

    The test split is cut to 2,048 images, class-balanced, and validation to about as many images
    as are trained on.

    Raises:
        UserError: a count that the source cannot give.
    """
    kept = np.sort(balanced_order(source.test.labels, seed)[:MAX_TEST])
    own = min(source.train.read(0).shape[:2])
    share = VALIDATION if count is None else min(VALIDATION, max(count, 1) / len(source.train))
    build_subsets(
        dataclasses.replace(source, test=source.test.take(kept)),
        {"train": "all" if count is None else count},
        folder,
        image_size=min(image_size, max(own, SMALL_SIDE)),
        validation=share,
        seed=seed,
    )


def transfer(
    model: LoadedModel,
    data: Path,
    config: TrainConfig,
    *,
    name: str,
    freeze: bool = False,
    seed: int = 0,
    device: str | torch.device = "cpu",
    on_progress: OnProgress = no_progress,
) -> Transferred:
    """Train a model on another source, and compare it with what it was.

    Args:
        model: its weights are where training starts, but for the classifier; it stays as it is.
        data: folder with the subsets `train`, `validation` and `test`.
        config: how to train. Pixels are normalised as the model always had them.
        freeze: train the new classifier alone; all other weights and statistics stay.
        seed: of the new classifier, the order of images and dropout.
        on_progress: is called for every step, then of the comparison with what it was.

    Raises:
        UserError: a model whose classifier cannot be replaced, or training diverged.
    """
    parts = [load_subset(data / part) for part in PARTS]
    subset, _, test = parts
    after, path, trained = _learn(model, parts, config, name, freeze, seed, device, on_progress)
    after.module.to(device)
    rated = {
        f"{part.info.name}/{what}": value
        for part in parts
        for what, value in evaluate(after.module, after.spec, part).items()
    }
    after = dataclasses.replace(after, spec=dataclasses.replace(after.spec, metrics=rated))
    most_common = np.bincount(np.asarray(subset.labels)).argmax()
    probed = [_probe(each, path, subset, test, device) for each in (model, after)]
    family, kept, untrained = _compare(model, after, np.array(test.images), device, on_progress)
    notes = [problem for _, problem in probed] + [*kept.notes, *untrained.notes]
    if model.spec.source == subset.info.source and model.spec.test_digest != test.info.digest:
        notes.append(f"{model.name} may have been trained on some of these test images")
    return Transferred(
        before=model,
        model=after,
        family=family,
        kept=kept,
        untrained=untrained,
        accuracies=Accuracies(
            probe_before=probed[0][0],
            probe_after=probed[1][0],
            after=rated["test/accuracy"],
            most_common=float((np.asarray(test.labels) == most_common).mean()),
        ),
        epochs=trained.epochs,
        steps=trained.steps,
        counts={part.info.name: len(part) for part in parts},
        notes=tuple(dict.fromkeys(note for note in notes if note)),
    )


def _learn(
    model: LoadedModel,
    parts: Sequence[Subset],
    config: TrainConfig,
    name: str,
    freeze: bool,
    seed: int,
    device: str | torch.device,
    on_progress: OnProgress,
) -> tuple[LoadedModel, str, Trained]:
    """Train a copy with a new classifier; return it, the classifier's path and the history."""
    subset, validation, test = parts
    module, path = with_new_classifier(model, len(subset.info.class_names), seed)
    steps = config.steps_on(subset.info.name, len(subset))
    settings = describe_run(config, steps, len(subset)) | {
        "freeze": freeze,
        "transferred_from": model.uri or model.name,
        "transferred_from_digest": model.digest,
    }
    spec = dataclasses.replace(
        model.spec,
        name=name,
        class_names=subset.info.class_names,
        source=subset.info.source,
        subset=subset.info.name,
        subset_count=len(subset),
        subset_digest=subset.info.digest,
        validation_digest=validation.info.digest,
        test_digest=test.info.digest,
        test_count=test.info.count,
        seed=seed,
        parameters=count_parameters(module),
        metrics={},
        training=settings,
        lineage={},
    )
    learner = ClassifierAlone(module, path) if freeze else module
    trained = train(
        learner,
        spec,
        subset,
        validation,
        config,
        steps=steps,
        seed=seed,
        device=str(device),
        on_progress=on_progress,
    )
    module = trained.module.get_submodule("network") if freeze else trained.module
    spec = dataclasses.replace(spec, environment=trained.environment)
    return LoadedModel(name, module.requires_grad_(True), spec), path, trained


def _probe(
    model: LoadedModel, path: str, subset: Subset, test: Subset, device: str | torch.device
) -> tuple[float | None, str]:
    """Return a linear probe's test accuracy, or None and why there is none."""
    fit, judge = (classifier_inputs(model, path, part.images, device) for part in (subset, test))
    try:
        return ridge_probe(fit, subset.labels, judge, test.labels).accuracy, ""
    except ValueError as error:
        return None, f"{model.name}: no linear probe: {error}"


def _compare(
    model: LoadedModel,
    after: LoadedModel,
    images: NDArray[np.uint8],
    device: str | torch.device,
    on_progress: OnProgress,
) -> tuple[str, SameLayers, SameLayers]:
    # The untrained network must share its initial weights with neither of the two.
    untrained = untrained_network(model.spec, max(model.spec.seed, after.spec.seed) + 1)
    networks = {"before": model, "after": after, "untrained": untrained}
    found = compare_models(
        [dataclasses.replace(network, name=name) for name, network in networks.items()],
        images,
        only=["cka"],
        settings=Settings(references=False),
        device=device,
        on_progress=on_progress,
    )
    result = found.results["cka"]
    kept, shared = (same_layers(result, name, "after") for name in ("before", "untrained"))
    return found.network("after").family, kept, shared
