"""Stitching: could one network go on from what another one computed?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.analyses.about import About, Drawing
from zoo.analyses.stitched_networks import (
    Cell,
    Maps,
    Point,
    is_all_that_is_read,
    pooled,
    stitched_answers,
)
from zoo.capture.hook_points import HookPoint
from zoo.capture.resume import resumable_blocks
from zoo.figures import style
from zoo.measures.intervals import mean_interval, ratio_values
from zoo.measures.ridge import HELD_OUT
from zoo.measures.stitching import Stitch, fit_stitches, resampling
from zoo.measures.threads import in_threads
from zoo.study.accumulator import Accumulator, NotApplicable
from zoo.study.answers import of_one_seed, rated_networks
from zoo.study.axes import Scale, estimate, layer_axis, select
from zoo.study.networks import Study
from zoo.study.results import INITIAL, RANGES, SIGNED, Metric, Result
from zoo.study.spatial_layout import Layout, choose_images, evenly, layout_of, places_of

ABOUT = About(
    name="stitching",
    title="Stitching",
    shows=(
        "Whether one network can continue from another's features: block l of A is mapped onto "
        "block m of B by ridge regression, the rest of B runs on the prediction, and the map shows "
        "how much of its accuracy B keeps."
    ),
    reading=(
        "1 means that A's block l contains everything B needs at block m, and a linear map can "
        "read it. B's own features, mapped in the same way, show how much a map fitted to so few "
        "images can keep. An untrained A shows what any features of these images would give."
    ),
    needs="activations",
    source="Bansal et al. 2021; in closed form: Csiszárik et al. 2021",
    settings=("batch_size", "seed"),
    captions={"stitching-{}": "Accuracy kept when one of {} continues from the other's features."},
    metrics={
        "kept_same_depth": "share of its accuracy that the second keeps on features of the first, "
        "mean over blocks of the same depth",
        "gained_same_depth": "accuracy of the second on features of the first minus its own, mean "
        "over blocks of the same depth",
    },
    units={"kept_same_depth": "ratio", "gained_same_depth": SIGNED},
)

LAYERS = 3  # blocks of a network, evenly spread
TESTED, FITTED = 48, 512  # images
ROWS = 2048  # places that a map is fitted to
SCALE = Scale("share of its accuracy that B keeps", 0, 1)


def start(study: Study) -> Accumulator:
    """Begin; an image of noise or two is run through each network.

    Raises:
        NotApplicable: one model only, no labels, too few images, or no network that can go on
            from a block of its own.
    """
    if len(study.compared) < 2:
        raise NotApplicable("there is one model only")
    rated, notes = rated_networks(study, "not continued")
    notes += of_one_seed(study, "stitched")
    if len(study.images) < 10:
        raise NotApplicable(f"it needs at least 10 images, and there are {len(study.images)}")
    sources: dict[Point, Layout] = {}
    targets: dict[Point, Layout] = {}
    for s, network in study.of_first_seeds:
        spatial = {b: layout_of(network, b) for b in resumable_blocks(network.trace)}
        known = {b: layout for b, layout in spatial.items() if layout}
        for block in evenly(list(known), LAYERS):
            sources[s, block] = known[block]
        if not known and network.compared:
            notes.append(f"{network.name}: not stitched: no block's output lies over the image")
        if s not in rated or not known:
            continue
        chosen = evenly(list(known), LAYERS)
        whole = [block for block in chosen if is_all_that_is_read(network, block)]
        targets |= {(s, block): known[block] for block in whole}
        if left := [block for block in chosen if block not in whole]:
            notes.append(
                f"{network.name}: not continued from {', '.join(left)}: later layers read more "
                "than this block's output"
            )
    if not targets or len({s for s, _ in sources}) < 2:
        raise NotApplicable("; ".join(notes))
    return _Stitching(study, sources, targets, notes)


class _Stitching(Accumulator):
    """Keeps features of some places of the images to fit to; runs networks on at the end."""

    gathers = ("places", "pooled", "prefix")

    def __init__(
        self,
        study: Study,
        sources: dict[Point, Layout],
        targets: dict[Point, Layout],
        notes: Sequence[str],
    ) -> None:
        self.study, self.sources, self.targets, self.notes = study, sources, targets, list(notes)
        seed = study.settings.seed
        rows = choose_images(len(study.images), TESTED + FITTED, seed)
        order = np.random.default_rng(seed).permutation(rows)
        self.tested = np.sort(order[: min(TESTED, len(rows) // 3)])
        self.fitted = np.setdiff1d(rows, self.tested)
        judges = order[len(self.tested) :][: max(1, round(HELD_OUT * len(self.fitted)))]
        self.judging = np.isin(self.fitted, judges)
        self.grids = list(dict.fromkeys((at.height, at.width) for at in targets.values()))
        self.places: dict[tuple[Point, tuple[int, int]], list[NDArray[np.float32]]] = {}
        self.pooled: dict[Point, list[NDArray[np.float32]]] = {}
        self.prefix: dict[Point, list[NDArray[np.float32]]] = {}

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return [HookPoint(block) for s, block in self.sources if s == index]

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        point = index, hook_point.layer
        inside = self.rows_of(self.fitted, len(value))
        layout = self.sources[point]
        value = value[torch.from_numpy(inside).to(value.device)].float()
        places = places_of(value, layout)
        self.pooled.setdefault(point, []).append(pooled(value, layout).cpu().numpy())
        if layout.num_prefix_tokens and point in self.targets:
            tokens = value[:, : layout.num_prefix_tokens].flatten(1)
            self.prefix.setdefault(point, []).append(tokens.cpu().numpy())
        for grid in self.grids:
            matrix = resampling((layout.height, layout.width), grid)[self._chosen(grid)]
            rows = (matrix.to(places) @ places).flatten(0, 1).cpu().numpy()
            self.places.setdefault((point, grid), []).append(rows)

    def _chosen(self, grid: tuple[int, int]) -> NDArray[np.int64]:
        """Return the places of a grid that are fitted to, the same for all networks in a batch."""
        count = grid[0] * grid[1]
        random = np.random.default_rng((self.study.settings.seed, self.start, *grid))
        return random.permutation(count)[: max(1, min(count, ROWS // len(self.fitted)))]

    def result(self) -> Result:
        maps: dict[Cell, Maps] = {}
        fits = in_threads(self._fit, self.sources)
        for (s, block), (fitted, why) in zip(self.sources, fits, strict=True):
            maps |= fitted
            network = self.study.networks[s]
            if why and network.compared:
                self.notes.append(f"{network.name}: nothing is fitted to {block}: {why}")
        right, own = stitched_answers(self.study, self.tested, self.sources, self.targets, maps)
        sources = [point for point in self.sources if any(a == point for a, _ in maps)]
        if not sources:
            raise NotApplicable("; ".join(self.notes))
        targets = list(self.targets)
        kept = np.full((3, len(sources), len(targets)), np.nan)
        for source, target in maps:
            kept[:, sources.index(source), targets.index(target)] = mean_interval(
                ratio_values(right[source, target], own[target[0]]), RANGES["ratio"]
            )
        for s in own:
            if not own[s].any():
                name = self.study.networks[s].name
                self.notes.append(f"{name}: no accuracy to keep: it is wrong on all images")
        networks = self.study.networks
        dims = ("layer", "layer_b")
        data = xr.Dataset(
            estimate("kept", dims, kept, kind="Student's t over images", scale=SCALE),
            layer_axis([(networks[s], block) for s, block in sources])
            | layer_axis([(networks[s], block) for s, block in targets], "layer_b"),
        )
        metrics, notes = tuple(self._metrics(right, own)), tuple(self.notes)
        return Result(data, metrics=metrics, notes=notes, images=len(self.tested))

    def _fit(self, source: Point) -> tuple[dict[Cell, Maps], str]:
        """Return how a source is mapped onto each block, or why it is not."""
        try:
            return {(source, target): of for target, of in self._fitted(source)}, ""
        except ValueError as error:
            return {}, str(error)

    def _fitted(self, source: Point) -> Iterator[tuple[Point, Maps]]:
        wanted = [target for target in self.targets if self._is_wanted(source[0], target[0])]
        for grid in self.grids:
            onto = [t for t in wanted if (self.targets[t].height, self.targets[t].width) == grid]
            if not onto:
                continue
            x = np.concatenate(self.places[source, grid])
            judging = np.repeat(self.judging, len(x) // len(self.judging))
            of_places = [np.concatenate(self.places[target, grid]) for target in onto]
            with_prefix = [target for target in onto if target in self.prefix]
            prefixes: dict[Point, Stitch] = {}
            if with_prefix:
                tokens = [np.concatenate(self.prefix[target]) for target in with_prefix]
                found = fit_stitches(np.concatenate(self.pooled[source]), tokens, self.judging)
                prefixes = dict(zip(with_prefix, found, strict=True))
            stitches = fit_stitches(x, of_places, judging)
            for target, stitch in zip(onto, stitches, strict=True):
                yield target, Maps(stitch, prefixes.get(target))

    def _is_wanted(self, source: int, target: int) -> bool:
        """Say whether a network's features are mapped onto another's: untrained ones not onto its
        own trained self's."""
        a, b = self.study.networks[source], self.study.networks[target]
        return a.compared or (a.state == INITIAL and a.of != b.name)

    def _metrics(
        self, right: dict[Cell, NDArray[np.bool_]], own: dict[int, NDArray[np.bool_]]
    ) -> Iterator[Metric]:
        """Yield what each pair keeps and gains where blocks of the same depth are joined."""
        networks = self.study.networks
        for a, b in dict.fromkeys((source[0], target[0]) for source, target in right):
            if a == b:
                continue
            onto = [cell for cell in right if (cell[0][0], cell[1][0]) == (a, b)]
            cells = [
                right[min(same, key=lambda c: abs(self._depth(c[0]) - self._depth(c[1])))]
                for target in self.targets
                if (same := [cell for cell in onto if cell[1] == target])
            ]
            kept = np.mean([ratio_values(hits, own[b]) for hits in cells], axis=0)
            gained = np.mean([hits.astype(int) - own[b] for hits in cells], axis=0)
            for measure, values in (("kept", kept), ("gained", gained)):
                mean, names = mean_interval(values), (networks[a].name, networks[b].name)
                yield Metric.of(f"{measure}_same_depth", mean, *names, pair="directed")

    def _depth(self, point: Point) -> float:
        blocks = self.study.networks[point[0]].trace.of_role("block")
        return (blocks.index(point[1]) + 1) / len(blocks)


def draw(result: Result, compared: Sequence[str]) -> list[Drawing]:
    """Draw what both networks of every pair keep on the other's features."""
    names = [name for name in compared if name in result.networks]
    kept = result.data["kept"]
    return [
        Drawing("stitching-{}", draw_pair(result, a, b), (a, b))
        for a, b in combinations(names, 2)
        if select(kept, a, b).notnull().any() or select(kept, b, a).notnull().any()
    ]


def draw_pair(result: Result, a: str, b: str) -> Figure:
    """Draw how much two networks keep on the other's features, on their own, on untrained ones."""
    kept = result.data["kept"]
    panels, across = [], 0
    for source, target in ((a, b), (b, a)):
        untrained = dict.fromkeys(select(kept, model=source, state=INITIAL)["network"].values)
        row = [
            _panel(result, source, target, f"A: {source}\nB: {target}"),
            _panel(result, target, target, f"A = B: {target}\n(what can be kept)"),
            *(_panel(result, name, target, f"A: {source} untrained\nB: {target}")
              for name in untrained),
        ]  # fmt: skip
        row = [panel for panel in row if panel.values.size and np.isfinite(panel.values).any()]
        across = max(across, len(row))
        panels += row
    figure = style.heat_maps(panels, colour_label=SCALE.label, low=0, high=1, across=across)
    for axis, panel in zip(figure.axes, panels, strict=False):
        style.write_values(axis, panel.values, points=7)
    return figure


def _panel(result: Result, source: str, target: str, title: str) -> style.HeatMap:
    cells = select(result.data["kept"], source, target)
    names = "\n".join(style.shorten(line, 34) for line in title.split("\n"))
    return style.HeatMap(
        cells.values, cells["name"].values, cells["name_b"].values, source, target, names
    )
