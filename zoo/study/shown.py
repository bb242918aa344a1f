"""Which images figures show: those that tell the networks apart, or those that were asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.config import parse_show
from zoo.errors import UserError, unknown
from zoo.measures.sampling import even_batches
from zoo.models.preprocess import model_input
from zoo.study.accumulator import NotApplicable
from zoo.study.answers import logits_on, predictions, rated_networks
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.recorded import LOGITS
from zoo.study.spatial_layout import choose_images

CANDIDATES = 128  # images that the networks are asked about; the rest are not looked at
OF_ONE = 512  # the same where the images that one network alone is right on are looked for


def choose_shown(study: Study) -> tuple[int, ...]:
    """Return the indices of the images that figures show, as `Settings.show` asks.

    By default they are those on which the networks' probabilities of the true class are farthest
    apart, in turn one that each network is best at. With fewer than two networks that know the
    classes, it is the first image of each class, in turn.

    Raises:
        UserError: there are no such images.
    """
    kind, value = parse_show(study.settings.show)
    most = study.settings.shown_images
    if kind == "indices":
        found = [int(i) for i in value.split(",")]
        if max(found) >= len(study.images):
            raise UserError(
                f"show: expected images from 0 to {len(study.images) - 1}, got {max(found)}"
            )
        return tuple(dict.fromkeys(found))
    if kind == "class":
        return _of_class(study, value)[:most]
    if kind == "only":
        return _only_one_right(study, value)[:most]
    if kind == "apart" and (order := _apart(study)):
        return order[:most]
    return _of_each_class(study)[:most]


def _apart(study: Study) -> tuple[int, ...]:
    """Return images in the order in which they tell the networks apart; none without two."""
    try:
        rows, answers = _ask(study, CANDIDATES)
    except NotApplicable:
        return ()
    if len(answers) < 2:
        return ()
    order = telling_apart(np.stack([of.chance for of in answers.values()]))
    return tuple(int(rows[i]) for i in order)


def telling_apart(chance: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order of images (n,) in which they tell networks apart, the farthest first.

    Args:
        chance: (networks, n) each network's probability of the true class.

    Returns:
        In turn an image that each network is best at. What is not a number comes last.

    >>> telling_apart(np.array([[0.9, 0.8, 0.1, 0.5], [0.1, 0.2, 0.4, 0.5]])).tolist()
    [0, 2, 1, 3]
    """
    apart = np.nan_to_num(chance.max(axis=0) - chance.min(axis=0), nan=-1)
    best = np.nan_to_num(chance, nan=-1).argmax(axis=0)
    turn = np.empty(len(apart), dtype=np.int64)
    for network in range(len(chance)):
        own = np.flatnonzero(best == network)
        turn[own[np.argsort(-apart[own], kind="stable")]] = np.arange(len(own))
    # Where none is apart, no turn helps.
    return np.lexsort((-apart, turn, apart <= 0))


@dataclass(frozen=True)
class _Answers:
    """A network's probability of each image's true class, and whether it is right."""

    chance: NDArray[np.float64]
    right: NDArray[np.bool_]


def _ask(study: Study, most: int) -> tuple[NDArray[np.int64], dict[str, _Answers]]:
    """Return some images, and what the networks that know their classes answer.

    Raises:
        NotApplicable: there is no such network.
    """
    rows = choose_images(len(study.images), most, study.settings.seed)
    labels = np.asarray(study.labels)[rows] if study.labels is not None else rows
    found = {}
    for network in rated_networks(study, "")[0].values():
        parts = [rows[a:b] for a, b in even_batches(len(rows), study.settings.batch_size)]
        logits = torch.cat([_logits(study, network, part) for part in parts]).float()
        chance = logits.double().softmax(dim=1).cpu().numpy()[np.arange(len(rows)), labels]
        found[network.name] = _Answers(chance, predictions(logits) == labels)
    return rows, found


def _logits(study: Study, network: ComparedNetwork, rows: NDArray[np.int64]) -> torch.Tensor:
    images = study.images[rows]
    record = study.record(network, images)
    if LOGITS not in record.found:
        pixels = model_input(images, network.model.spec, network.model.module)
        record.keep({LOGITS: logits_on(network, pixels, len(rows))})
    return record.found[LOGITS]


def _only_one_right(study: Study, name: str) -> tuple[int, ...]:
    """Return the images that one network alone is right about, the farthest apart first."""
    try:
        rows, answers = _ask(study, OF_ONE)
    except NotApplicable as reason:
        raise UserError(f"show: cannot tell who is right: {reason}") from None
    if name not in answers:
        raise unknown("model in show only:", name, answers)
    others = [of for other, of in answers.items() if other != name]
    if not others:
        raise UserError(f"show: only {name} knows the images' classes; ask for `classes`")
    alone = np.flatnonzero(answers[name].right & ~np.any([of.right for of in others], axis=0))
    if not len(alone):
        raise UserError(
            f"show: {name} alone is right about none of {len(rows)} images; ask for others, such "
            "as `apart`"
        )
    apart = answers[name].chance - np.max([of.chance for of in others], axis=0)
    return tuple(int(rows[i]) for i in alone[np.argsort(-apart[alone], kind="stable")])


def _of_class(study: Study, name: str) -> tuple[int, ...]:
    """Return the images of a class."""
    if study.labels is None:
        raise UserError("show: the images have no labels")
    if name not in study.class_names:
        raise unknown("class in show class:", name, study.class_names)
    found = np.flatnonzero(np.asarray(study.labels) == study.class_names.index(name))
    if not len(found):
        raise UserError(f"show: none of the images is of the class {name}")
    return tuple(int(i) for i in found)


def _of_each_class(study: Study) -> tuple[int, ...]:
    """Return the images, the first one of each class before the others."""
    count = len(study.images)
    if study.labels is None:
        return tuple(range(count))
    labels = np.asarray(study.labels)
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    return (*firsts, *(i for i in range(count) if i not in set(firsts)))
