"""Networks and results written by hand, and what the claims make of them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr

from zoo.claims import judge
from zoo.study.axes import column, variable
from zoo.study.results import INITIAL, TRAINED, ComparisonResults, Metric, Network, Result

LAYERS = ("stem", "b.0", "b.1", "b.2", "b.3", "b.4", "head")
ROLES = ("stem", *["block"] * 5, "head")
BLOCKS = (-1, 0, 1, 2, 3, 4, -1)


def network(name, family, subset="s", count=100, **known):
    """A network that was trained on `count` images; a ViT reads a class token."""
    defaults = {
        "model": name, "state": TRAINED, "compared": True, "seed": 0, "arch": family,
        "kwargs": "{}", "family": family, "parameters": 10**7, "image_size": 16,
        "source": "digits", "subset": subset, "subset_digest": subset, "images": count,
        "class_token": family == "vit",
    }  # fmt: skip
    return Network(name, **(defaults | known))


VIT, CNN = network("v", "vit"), network("c", "cnn")
# Names in the order of the claims' groups: ViT on less and on more, CNN on less and on more.
LESS_AND_MORE = [VIT, network("w", "vit", "t", 400), CNN, network("d", "cnn", "t", 400)]
LARGER = [
    network(name, "vit", subset, count, kwargs='{"depth": 12}', parameters=3 * 10**7)
    for name, subset, count in (("x", "s", 100), ("y", "t", 400))
]  # on the same two subsets as LESS_AND_MORE
GAP = network("g", "vit", arch="vit-gap", class_token=False)


def untrained(networks):
    """The same networks before training; "v" is then "v0"."""
    return [
        replace(one, name=f"{one.name}0", model=one.name, state=INITIAL, compared=False)
        for one in networks
    ]


def found(networks, images=50, **results):
    """Results of a comparison; an analysis' dashes are underscores."""
    named = {name.replace("_", "-"): result for name, result in results.items()}
    return ComparisonResults(tuple(networks), named, {}, images)


def verdicts(networks, images=50, **results):
    """Return verdicts by (claim, names of the networks)."""
    return {(v.claim.id, v.models): v for v in judge(found(networks, images, **results))}


def side(verdict):
    """Say on which side of its threshold a claim's number lies, whatever its interval."""
    if verdict.value is None:
        return verdict.verdict
    return "supported" if verdict.claim.threshold.holds(verdict.value) else "not supported"


def metrics(**measures):
    """A result of metrics by network, or by pair of them: `difference={("c", "v"): 0.2}`.

    Three numbers are a value and the ends of its interval. Differences change sign when turned.
    """
    made = []
    for measure, by_network in measures.items():
        pair = "signed" if measure.endswith("difference") else "symmetric"
        for of, numbers in by_network.items():
            a, b = of if isinstance(of, tuple) else (of, "")
            value, *ends = numbers if isinstance(numbers, list) else [numbers]
            made.append(Metric(measure, value, a, b, *ends, pair=pair))
    return Result(metrics=tuple(made))


def layers(names, axis="layer", count=None):
    """Coordinates of an axis of the first so many layers of each network, or of all."""
    end = axis.removeprefix("layer")
    columns = {"name": LAYERS, "role": ROLES, "block": BLOCKS}
    made = {key: column([*whole[:count]] * len(names)) for key, whole in columns.items()}
    made["network"] = column([name for name in names for _ in LAYERS[:count]])
    return {f"{key}{end}": (axis, values) for key, values in made.items()}


def by_layer(dims, **tables):
    """A result of variables over layers and more dimensions, each {network: (layers, …)}."""
    names = list(next(iter(tables.values())))
    count = len(next(iter(tables.values()))[names[0]])
    stacked = {
        key: np.concatenate([np.asarray(table[name], float) for name in names])
        for key, table in tables.items()
    }
    data = xr.Dataset(
        {key: variable(("layer", *dims), values) for key, values in stacked.items()},
        layers(names, count=count),
    )
    return Result(data)


def cka(maps: Mapping[tuple[str, str], np.ndarray], measured: Mapping[str, Mapping] | None = None):
    """A result of CKA (seven layers each) of pairs of networks, symmetric, and of metrics."""
    names = list(dict.fromkeys(name for pair in maps for name in pair))
    at = {name: slice(i * len(LAYERS), (i + 1) * len(LAYERS)) for i, name in enumerate(names)}
    values = np.full((len(names) * len(LAYERS),) * 2, np.nan)
    for (a, b), cells in maps.items():
        values[at[a], at[b]] = cells
        values[at[b], at[a]] = np.transpose(cells)
    data = xr.Dataset(
        {"cka": variable(("layer", "layer_b"), values)}, layers(names) | layers(names, "layer_b")
    )
    return Result(data, metrics=metrics(**(measured or {})).metrics)
