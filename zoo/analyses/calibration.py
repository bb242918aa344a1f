"""Calibration: is a network right as often as its confidence says?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.figures import style
from zoo.measures.calibration import (
    BINS,
    calibrated_error,
    calibration_error_interval,
    fit_temperature,
    log_probabilities,
    reliability,
)
from zoo.measures.intervals import mean_interval, wilson_interval
from zoo.measures.ridge import hold_out
from zoo.study.accumulator import Accumulator, Batch
from zoo.study.answers import rated_networks, with_seeds
from zoo.study.axes import column, estimate, variable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import SIGNED, Metric, Result

ABOUT = About(
    name="calibration",
    title="Calibration",
    shows=(
        "Whether a network is right as often as its confidence says: accuracy against confidence "
        "in bins of equally many images, the expected calibration error, and the negative "
        "log-likelihood; and the same after scaling by one temperature, fitted on other images."
    ),
    reading=(
        "On the diagonal, confidence is accuracy; below it, the network is overconfident. Bars are "
        "95 % intervals for that many images. Even a calibrated network has an error above 0: “by "
        "chance” is its error on these images."
    ),
    needs="outputs",
    source="Guo et al. 2017; equally filled bins: Nguyen & O'Connor 2015",
    settings=("seed",),
    captions={"calibration": "Accuracy against confidence, before and after temperature scaling."},
    metrics={
        "error": "expected calibration error",
        "error_by_chance": "expected calibration error if the network were calibrated",
        "error_scaled": "expected calibration error after temperature scaling",
        "likelihood": "negative log-likelihood",
        "likelihood_scaled": "negative log-likelihood after temperature scaling",
        "likelihood_difference": "negative log-likelihood, first minus second",
        "overconfidence": "mean confidence minus accuracy",
        "temperature": "temperature that fits best",
    },
    units={
        **dict.fromkeys(("likelihood", "likelihood_scaled", "likelihood_difference"), "nats"),
        "temperature": "number",
        "overconfidence": SIGNED,
    },
)

LOGITS, SCALED = "logits", "scaled"
SUMS_TO = 1e-2  # what rounding in half precision leaves of a sum of probabilities


def start(study: Study) -> Accumulator:
    """Begin.

    Raises:
        NotApplicable: no labels, or no network that knows their classes.
    """
    rated, notes = rated_networks(study, "no calibration")
    return _Calibration(study, with_seeds(study, rated), notes)


class _Calibration(Accumulator):
    gathers = ("logits",)

    def __init__(
        self, study: Study, rated: Mapping[int, ComparedNetwork], notes: Sequence[str]
    ) -> None:
        self.study, self.rated, self.notes = study, rated, list(notes)
        self.logits: dict[int, list[NDArray[np.float32]]] = {s: [] for s in rated}

    def end_batch(self, batch: Batch) -> None:
        for s in self.rated:
            self.logits[s].append(batch.logits[s].float().cpu().numpy())

    def result(self) -> Result:
        labels, seed = np.asarray(self.study.labels), self.study.settings.seed
        bins = min(BINS, len(labels))
        names = [network.name for network in self.rated.values()]
        curves = np.full((5, len(names), 2, bins), np.nan)
        metrics: list[Metric] = []
        likelihoods = []
        for k, (s, name) in enumerate(zip(self.rated, names, strict=True)):
            logits = np.concatenate(self.logits[s]).astype(np.float64)
            if why := _why_none(logits):
                self.notes.append(f"{name}: no calibration: its outputs are {why}")
                likelihoods.append(np.full(len(labels), np.nan))
                continue
            right = logits.argmax(axis=1) == labels
            found = {LOGITS: log_probabilities(logits)}
            if scaled := self._scaled(name, logits, labels):
                found[SCALED] = scaled[0]
                metrics.append(Metric("temperature", scaled[1], name))
            for j, (what, logs) in enumerate(found.items()):
                confidence = np.exp(logs.max(axis=1))
                curves[:, k, j] = _curve(confidence, right)
                metrics += _metrics(name, what, confidence, right, -_own(logs, labels), seed)
            likelihoods.append(-_own(found[LOGITS], labels))
        each = zip(self.rated.values(), likelihoods, strict=True)
        for (a, of_a), (b, of_b) in combinations(each, 2):
            if a.of == b.of:
                continue
            gap, pair = mean_interval(of_a - of_b), (a.name, b.name)
            metrics.append(Metric.of("likelihood_difference", gap, *pair, pair="signed"))
        dims = ("network", "output", "bin")
        data = xr.Dataset(
            {
                "confidence": variable(dims, curves[0]),
                **estimate("accuracy", dims, curves[1:4], kind="Wilson over images"),
                "images": variable(dims, curves[4]),
            },
            {"network": column(names), "output": column([LOGITS, SCALED])},
        )
        return Result(data, metrics=tuple(metrics), notes=tuple(self.notes))

    def _scaled(
        self, name: str, logits: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], float] | None:
        """Return log-probabilities at temperatures fitted on the other half of the images.

        And the geometric mean of the two temperatures; None where there is none.
        """
        halves = hold_out(labels, 0.5, seed=self.study.settings.seed)
        if min(map(len, halves)) < 2:
            self.notes.append(f"{name}: not scaled: too few images to fit a temperature on half")
            return None
        scaled, temperatures = np.empty_like(logits), []
        for one, other in (halves, halves[::-1]):
            try:
                temperatures.append(fit_temperature(logits[other], labels[other]))
            except ValueError as error:
                self.notes.append(f"{name}: not scaled: {error}")
                return None
            scaled[one] = log_probabilities(logits[one], temperatures[-1])
        return scaled, math.sqrt(math.prod(temperatures))


def _why_none(logits: NDArray[np.float64]) -> str:
    """Say why a network's outputs have no calibration; empty where they have one."""
    if not np.isfinite(logits).all():
        return "not all numbers"
    probabilities = (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=SUMS_TO)
    return "probabilities; leave out the softmax" if probabilities else ""


def _own(logs: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    return logs[np.arange(len(labels)), labels]


def _curve(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (5, bins): confidence, accuracy, its interval, images."""
    bins = reliability(confidence, right)
    ends = [wilson_interval(round(share * n), int(n)) for _, share, n in bins]
    return np.column_stack([bins[:, :2], ends, bins[:, 2]]).T


def _metrics(
    name: str,
    what: str,
    confidence: NDArray[np.float64],
    right: NDArray[np.bool_],
    likelihood: NDArray[np.float64],
    seed: int,
) -> Iterator[Metric]:
    end = "_scaled" if what == SCALED else ""
    yield Metric.of(f"error{end}", calibration_error_interval(confidence, right, seed=seed), name)
    yield Metric.of(f"likelihood{end}", mean_interval(likelihood), name)
    if what == LOGITS:
        yield Metric("error_by_chance", calibrated_error(confidence, seed=seed), name)
        yield Metric.of("overconfidence", mean_interval(confidence - right), name)


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw a reliability diagram of each network, before and after scaling."""
    names = [name for name in compared if name in result.networks]
    with style.styled():
        across = min(len(names), style.PANELS_A_ROW)
        size = min(2.6, (style.WIDTH - 0.65) / across - 0.15)
        figure, axes = style.line_panels(
            len(names), size=(size, size), above=0.72, gap=(0.15, 1.14)
        )
        for i, (axis, name) in enumerate(zip(axes, names, strict=True)):
            colour = style.colour(i)
            looks = {LOGITS: ("o", colour, colour), SCALED: ("s", "0.45", "white")}
            for output, (mark, line, face) in looks.items():
                of = result.data.sel(network=name, output=output)
                if not np.isfinite(of["confidence"]).any():
                    continue
                accuracy, ends = of["accuracy"].values, of["accuracy_ci"].values
                axis.errorbar(
                    of["confidence"], accuracy, fmt=mark, color=line, markerfacecolor=face,
                    yerr=np.maximum(np.abs(ends.T - accuracy), 0), markersize=4, linewidth=0.8,
                    label=_label(result, name, output),
                )  # fmt: skip
            axis.plot([0, 1], [0, 1], color="0.5", linestyle=":", linewidth=1)
            chance = result.metric("error_by_chance", name)
            said = f" (by chance {chance:.3f})" if chance is not None else ""
            axis.set_title(
                f"{style.shorten(name, 24)}\ncalibration error{said}:", loc="left", pad=29
            )
            axis.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), xlabel="confidence")
            axis.legend(loc="lower left", bbox_to_anchor=(-0.03, 1), handletextpad=0.2)
        axes[0].set_ylabel("accuracy")
    return [Drawing("calibration", figure)]


def _label(result: Result, name: str, output: str) -> str:
    error = result.find("error" if output == LOGITS else "error_scaled", name)
    temperature = result.metric("temperature", name)
    what = "as it is" if output == LOGITS else f"temperature {temperature:.2f}"
    return f"{what}: {error.value:.3f} ({error.low:.3f} to {error.high:.3f})" if error else what
