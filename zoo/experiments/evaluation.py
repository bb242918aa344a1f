"""How good is one network? Its accuracy and calibration on labelled images, read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.analyses import accuracy, calibration
from zoo.analyses.engine import result_of
from zoo.capture.layers import Trace
from zoo.config import Settings
from zoo.data.sources import Split
from zoo.data.subsets import Subset
from zoo.data.trained_on import count_trained_on, trained_on_note
from zoo.errors import UserError, shown
from zoo.models.files import LoadedModel
from zoo.models.preprocess import preprocess
from zoo.progress import OnProgress, no_progress
from zoo.study.accumulator import Batch
from zoo.study.answers import name_if_varying, predictions
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Metric

MEASURED = (accuracy, calibration)
NO_PIXELS = np.zeros((0, 1, 1, 3), np.uint8)  # the measures see outputs alone


@dataclass(frozen=True)
class Evaluation:
    """What a network gets right: its metrics as in a comparison, and each image's own (n,)."""

    name: str
    metrics: tuple[Metric, ...]
    right: NDArray[np.bool_]
    notes: tuple[str, ...]

    def find(self, measure: str) -> Metric | None:
        """Return a metric; None where it was not measured."""
        return next((metric for metric in self.metrics if metric.measure == measure), None)


def evaluate(
    model: LoadedModel,
    images: Split,
    class_names: Sequence[str],
    *,
    settings: Settings | None = None,
    device: str | torch.device = "cpu",
    trained_on: Subset | None = None,
    on_progress: OnProgress = no_progress,
) -> Evaluation:
    """Measure accuracy and calibration of a network, as the analyses of these names do.

    Args:
        model: a classifier. It may know more classes than the images show; its answer is right
            where it is the image's class among all of its own.
        images: of any sizes; each is read when its turn comes.
        class_names: of the images' labels. The model finds them among its own by name.
        settings: batch size, and the seed of bootstraps.
        device: where the network runs.
        trained_on: the images that it was trained on, where they are at hand: a note says how many
            of them are among the images.
        on_progress: is called for every batch.

    Raises:
        UserError: the model has no classifier or does not know a class, or a damaged image.
    """
    settings = settings or Settings()
    labels = _labels(model, images.labels, class_names)
    study = _study_of(model, labels, settings, torch.device(device))
    measures = [analysis.start(study) for analysis in MEASURED]
    model.module.to(device)
    answers = []
    for start in range(0, len(labels), settings.batch_size):
        stop = min(start + settings.batch_size, len(labels))
        pixels = [preprocess(images.read(i)[None], model.spec) for i in range(start, stop)]
        logits = model(torch.cat(pixels))
        answers.append(predictions(logits))
        for measure in measures:
            measure.end_batch(Batch(start, stop, NO_PIXELS, labels[start:stop], (logits,)))
        on_progress(stop, len(labels), "images")
    results = [
        result_of(measure, analysis.ABOUT)
        for analysis, measure in zip(MEASURED, measures, strict=True)
    ]
    notes = name_if_varying(model.name, model.module, model.spec)
    notes += [note for result in results for note in result.notes]
    if shared := count_trained_on(images, trained_on):
        notes.append(trained_on_note(model.name, shared, len(labels)))
    return Evaluation(
        model.name,
        tuple(metric for result in results for metric in result.metrics),
        np.concatenate(answers) == labels,
        tuple(notes),
    )


def _labels(
    model: LoadedModel, labels: NDArray[np.int64], class_names: Sequence[str]
) -> NDArray[np.int64]:
    """Return the images' classes as a model counts them."""
    own = {name: i for i, name in enumerate(model.spec.class_names)}
    if not own:
        raise UserError(f"{model.name} has no classifier: there is no accuracy to evaluate")
    if strange := [name for name in class_names if name not in own]:
        raise UserError(
            f"{model.name} does not know the class {strange[0]!r} ({len(strange)} of "
            f"{len(class_names)} are not among its own, {shown(list(own))}): name the folders as "
            "the model names its classes (zoo show), or import it with --classes FILE"
        )
    return np.array([own[name] for name in class_names])[labels]


def _study_of(
    model: LoadedModel, labels: NDArray[np.int64], settings: Settings, device: torch.device
) -> Study:
    """Return a study that holds the answers' side alone: no layer is looked at."""
    names = tuple(model.spec.class_names)
    trace = Trace((), (), output=(len(names),))
    network = ComparedNetwork(model.name, model, trace, (), "other", of=model.name)
    return Study((network,), NO_PIXELS, labels, names, (), settings, device)
