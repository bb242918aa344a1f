"""Loss geometry: how sharply does the loss bend around a network's weights?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from zoo.analyses.about import About, Drawing
from zoo.figures import style
from zoo.measures.hessian import largest_eigenvalues
from zoo.measures.intervals import mean_interval
from zoo.models.modes import eval_mode
from zoo.models.preprocess import logits_of, model_input
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.answers import rated_networks
from zoo.study.axes import column, variable
from zoo.study.networks import ComparedNetwork, Study
from zoo.study.results import Metric, Result
from zoo.study.spatial_layout import choose_images

ABOUT = About(
    name="loss-geometry",
    title="Loss geometry",
    shows=(
        "How sharply the loss bends around a network's weights: the five eigenvalues of largest "
        "magnitude of its Hessian, on eight batches of sixteen images."
    ),
    reading=(
        "Far to the right, the loss rises steeply along some direction; points left of 0 are "
        "directions in which it bends downwards. Eigenvalues depend on how weights are scaled, so "
        "compare two architectures with care."
    ),
    needs="gradients",
    source="Park & Kim 2022, Fig. 4; Chen et al. 2022 (arXiv 2106.01548), Table 1",
    settings=("seed",),
    captions={"loss-geometry": "Eigenvalues of the loss' Hessian, batch by batch."},
    metrics={
        "largest": "largest eigenvalue of the Hessian, mean over batches",
        "negative_share": "share of negative ones among the five largest by magnitude",
        "largest_log_ratio": "logarithm of the first's largest eigenvalue over the second's, mean "
        "over batches",
    },
    units={"largest": "nats per unit of weight squared", "largest_log_ratio": "log"},
)

BATCHES, BATCH, EIGENVALUES = 8, 16, 5


def start(study: Study) -> Accumulator:
    """Begin; the passes are made at the end, since they need gradients of gradients.

    Raises:
        NotApplicable: no labels, too few images, or no network that knows their classes.
    """
    rated, notes = rated_networks(study, "no loss")
    if len(study.images) < 2 * BATCH:
        raise NotApplicable(f"it needs at least {2 * BATCH} images, and there are fewer")
    return _LossGeometry(study, {network.name for network in rated.values()}, notes)


class _LossGeometry(Accumulator):
    def __init__(self, study: Study, rated: set[str], notes: Sequence[str]) -> None:
        self.study, self.notes = study, list(notes)
        self.networks = [n for n in study.networks if n.of in rated or n.name in rated]
        rows = choose_images(len(study.images), BATCHES * BATCH, study.settings.seed)
        # Shuffled: a data set may be sorted by class.
        rows = np.random.default_rng(study.settings.seed).permutation(rows)
        self.batches = rows[: len(rows) // BATCH * BATCH].reshape(-1, BATCH)

    def result(self) -> Result:
        found = np.full((len(self.networks), len(self.batches), EIGENVALUES), np.nan)
        for k, network in enumerate(self.networks):
            for b, rows in enumerate(self.batches):
                done = k * len(self.batches) + b
                self.on_progress(done, len(self.networks) * len(self.batches), "Hessians")
                try:
                    found[k, b] = self._eigenvalues(network, rows)
                except ValueError as error:
                    self.notes.append(f"{network.name}: batch {b + 1}: {error}")
        names = [network.name for network in self.networks]
        data = xr.Dataset(
            {"eigenvalue": variable(("network", "batch", "rank"), found)},
            {"network": column(names)},
        )
        metrics = tuple(self._metrics(names, found))
        return Result(data, (), metrics, tuple(self.notes), self.batches.size)

    def _eigenvalues(
        self, network: ComparedNetwork, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        module = network.model.module
        pixels = model_input(self.study.images[rows], network.model.spec, module)
        labels = torch.from_numpy(np.asarray(self.study.labels)[rows]).to(pixels.device)
        parameters = [p for p in module.parameters() if p.is_floating_point()]
        asked = [p.requires_grad for p in parameters]
        try:
            for p in parameters:
                p.requires_grad_(True)
            # Fused attention cannot be differentiated twice.
            with eval_mode(module), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                loss = cross_entropy(logits_of(module(pixels)).float(), labels)
                seed = self.study.settings.seed
                return largest_eigenvalues(loss, parameters, EIGENVALUES, seed=seed)
        finally:
            for p, was in zip(parameters, asked, strict=True):
                p.requires_grad_(was)

    def _metrics(self, names: Sequence[str], found: NDArray[np.float64]) -> Iterator[Metric]:
        largest = found.max(axis=2)
        for name, most, values in zip(names, largest, found, strict=True):
            yield Metric.of("largest", mean_interval(most), name)
            below = np.where(np.isnan(values), np.nan, values < 0).mean(axis=1)
            yield Metric.of("negative_share", mean_interval(below), name)
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.log(np.where(largest > 0, largest, np.nan))
        for i, j in combinations(range(len(names)), 2):
            ratio, pair = mean_interval(logs[i] - logs[j]), (names[i], names[j])
            yield Metric.of("largest_log_ratio", ratio, *pair, pair="signed")


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw every network's eigenvalues, a row a network and a line of points a batch."""
    names = [name for name in compared if name in result.networks]
    labels = [style.shorten(name, 24) for name in names]
    left = 0.25 + max(map(style.text_width, labels))
    with style.styled():
        figure, (axis,) = style.line_panels(
            size=(style.WIDTH - left - 0.2, 0.3 + 0.45 * len(names)), left=left, below=0.45
        )
        for i, name in enumerate(names):
            values = result.data["eigenvalue"].sel(network=name).values
            height = i + np.linspace(-0.3, 0.3, len(values))[:, None]
            axis.plot(
                values, np.broadcast_to(height, values.shape), "o", markersize=2.5,
                color=style.colour(i),
            )  # fmt: skip
        axis.axvline(0, color="0.5", linewidth=0.8)
        axis.set_xscale("symlog", linthresh=1)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}".replace("-", "−"))
        axis.margins(x=0.04)
        axis.set_yticks(range(len(names)), labels)
        axis.set(ylim=(len(names) - 0.5, -0.5), xlabel="eigenvalue of the Hessian")
        axis.set_title(
            f"the {EIGENVALUES} of largest magnitude; a line of points is a batch", loc="left"
        )
    return [Drawing("loss-geometry", figure)]
