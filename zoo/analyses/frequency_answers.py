"""What networks answer under noise of one band of frequencies, and on hybrid images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from zoo.measures.frequency import band_noise, hybrid_images
from zoo.measures.intervals import mean_interval, share_interval
from zoo.models.preprocess import model_input
from zoo.study.answers import commonest_share, logits_on, of_one_seed, predictions
from zoo.study.axes import column, estimate, variable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Metric
from zoo.study.spatial_layout import choose_images

IMAGES = 128
DEVIATION = 0.2  # of the pixels' range: between strengths 3 and 4 of ImageNet-C's noise
BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
CUTS = (0.1, 0.2, 0.3, 0.5)
WILSON = "Wilson over images"
HIGH = 0.6  # from here on, noise is called high
SMALLEST = 4  # pixels along a side: of fewer, a band holds no frequency


def answers_on_changed_images(
    study: Study, rated: Mapping[int, ComparedNetwork], clean: Mapping[int, NDArray[np.int64]]
) -> tuple[dict[int, xr.Dataset], list[Metric], list[str]]:
    """Return what networks answer under noise and on hybrid images.

    Args:
        study: its images and labels.
        rated: the networks that know the labels' classes, by index.
        clean: the classes that they answer on all images as they are.

    Returns:
        A dataset a network, metrics of the accuracy lost, and notes.
    """
    rows = choose_images(len(study.images), IMAGES, study.settings.seed)
    labels = np.asarray(study.labels)[rows]
    partner = _partners(labels, study.settings.seed)
    found, notes = {}, of_one_seed(study, "noise and hybrid images")
    small = {s for s, network in rated.items() if network.model.spec.image_size < SMALLEST}
    notes += [f"{rated[s].name}: no answers under noise: its input is too small" for s in small]
    rated = {s: network for s, network in rated.items() if s not in small}
    lost = np.full((len(rated), len(BANDS) - 1, len(rows)), np.nan)
    for k, (s, network) in enumerate(rated.items()):
        right = clean[s][rows] == labels
        pixels = model_input(study.images[rows], network.model.spec, network.model.module)
        accuracy = np.empty((3, len(BANDS) - 1))
        noises = _noises(pixels, network.model.spec.std, study.settings.seed)
        for j, noise in enumerate(noises):
            hits = _answers(study, network, pixels + noise) == labels
            lost[k, j] = right.astype(int) - hits
            accuracy[:, j] = share_interval(hits)
        variables = {
            **estimate("noise_accuracy", "band", accuracy, kind=WILSON),
            "clean_accuracy": variable((), right.mean()),
            "chance": variable((), commonest_share(np.asarray(study.labels))),
        }
        middles = [(low + high) / 2 for low, high in pairwise(BANDS)]
        data = xr.Dataset(variables, {"band": middles}, {"answered_images": len(rows)})
        if (partner >= 0).all():
            data = data.assign(_hybrid(study, network, pixels, labels, partner))
        found[s] = data
    if not (partner >= 0).all():
        notes.append("no hybrid images: all images are of one class")
    names = [network.name for network in rated.values()]
    return found, list(_lost_metrics(names, lost)), notes


def _hybrid(
    study: Study,
    network: ComparedNetwork,
    pixels: torch.Tensor,
    labels: NDArray[np.int64],
    partner: NDArray[np.int64],
) -> xr.Dataset:
    """Return how often the class of the low and of the high frequencies is answered."""
    shares = np.empty((3, len(CUTS), 2))
    for j, cut in enumerate(CUTS):
        answers = _answers(study, network, hybrid_images(pixels, pixels[partner], cut))
        for end, of in enumerate((labels, labels[partner])):
            shares[:, j, end] = share_interval(answers == of)
    variables = estimate("hybrid_share", ("cut", "source"), shares, kind=WILSON)
    return xr.Dataset(variables, {"cut": list(CUTS), "source": column(["low", "high"])})


def _answers(study: Study, network: ComparedNetwork, pixels: torch.Tensor) -> NDArray[np.int64]:
    return predictions(logits_on(network, pixels, study.settings.batch_size))


def _noises(pixels: torch.Tensor, deviation: Sequence[float], seed: int) -> Iterator[torch.Tensor]:
    """Yield the noise of each band for a model's input.

    It is not cut at black and white, which would spread it over all frequencies.
    """
    scale = torch.tensor(deviation).to(pixels).view(1, -1, 1, 1)
    for low, high in pairwise(BANDS):
        high = math.inf if high == BANDS[-1] else high  # noqa: PLW2901
        noise = band_noise(tuple(pixels.shape), low, high, deviation=DEVIATION, seed=seed)
        yield noise.to(pixels) / scale


def _lost_metrics(names: Sequence[str], lost: NDArray[np.float64]) -> Iterator[Metric]:
    """Yield the accuracy lost (networks, bands, images) to high and low noise, and compare it."""
    upper = np.array(BANDS[:-1]) >= HIGH
    by_noise = {
        "lost_to_high_noise": lost[:, upper].mean(axis=1),
        "lost_to_low_noise": lost[:, ~upper].mean(axis=1),
    }
    for measure, values in by_noise.items():
        for k, name in enumerate(names):
            yield Metric.of(measure, mean_interval(values[k]), name)
    of_high = by_noise["lost_to_high_noise"]
    for i, j in combinations(range(len(names)), 2):
        gap, pair = mean_interval(of_high[i] - of_high[j]), (names[i], names[j])
        yield Metric.of("lost_to_high_noise_difference", gap, *pair, pair="signed")


def _partners(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return for each image another one of another class, drawn at random; −1 without one."""
    random = np.random.default_rng(seed)
    others = [np.flatnonzero(labels != label) for label in labels]
    return np.array([random.choice(o) if len(o) else -1 for o in others])
