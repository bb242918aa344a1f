"""What the page's interactive parts draw: labelled results, packed to travel in the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.report.embedding import picture_uri
from zoo.study.axes import Scale, select, select_heads
from zoo.study.networks import layer_labels
from zoo.study.results import Part, Result

if TYPE_CHECKING:
    import xarray as xr

STEPS = {
    "layer": "Depth, from input to output",
    "head": "Head",
    "channel": "Layer, and channel from the strongest",
}
SIDE = 480  # pixels: the page draws pictures as wide as that
LARGE_PICTURE = 20_000  # bytes without loss: photographs of more than some 64 pixels a side
PICTURES = "images"  # the variable of a part that holds the pictures its maps lie over


def heat_map_data(
    result: Result, title: str, compared: Sequence[str], first: str = ""
) -> dict[str, Any] | None:
    """Pack maps of layers by layers or heads, with known intervals; None without any.

    The panel opens on the variable `first`, where there is one of that name.
    """
    maps = []
    for name in sorted(result.data.data_vars, key=lambda name: name != first):
        values = result.data[name]
        if values.dims == ("layer", "layer_b"):
            pairs = [*((a, a) for a in compared), *combinations(compared, 2)]
            cells = [(pair, select(values, *pair)) for pair in pairs]
            # A network with itself only where that was measured.
            cells = [of for of in cells if len({*of[0]}) == 2 or np.isfinite(of[1].values).any()]
        elif values.dims == ("layer", "head"):
            cells = [((a, a), select_heads(values, a)) for a in compared]
        else:
            continue
        shown = np.concatenate([part.values.ravel() for _, part in cells])
        for pair, part in cells:
            if part.size:
                bounds = _ends(result.data, f"{name}_ci", pair)
                maps.append(_heat_map(part, shown, pair, " × ".join(dict.fromkeys(pair)), bounds))
    return {"kind": "heat", "title": title, "maps": maps} if maps else None


def _ends(data: xr.Dataset, name: str, pair: tuple[str, str]) -> list[NDArray[np.float64]]:
    """Return the lower and upper ends of a pair's intervals; nothing where there are none."""
    bounds = select(data[name], *pair).values if name in data else np.array(np.nan)
    return [*np.moveaxis(bounds, -1, 0)] if np.isfinite(bounds).any() else []


def _heat_map(
    part: xr.DataArray,
    shown: NDArray[np.float64],
    networks: tuple[str, str],
    label: str,
    bounds: Sequence[NDArray[np.float64]],
) -> dict[str, Any]:
    scale = Scale.of(part)
    rows, columns = part.dims
    return {
        "measure": scale.label,
        "label": label,
        "unit": str(part.attrs.get("units", "")),
        "rows": _axis(part, str(rows), networks[0], counted=columns == "head"),
        "columns": _axis(part, str(columns), networks[1]),
        "value": pack(part.values),
        "interval": [pack(end) for end in bounds],
        # One colour range a kind: its maps are read against each other.
        "scale": _filled(scale, shown),
    }


def _axis(values: xr.DataArray, dim: str, network: str, *, counted: bool = False) -> dict[str, Any]:
    """Name the positions along a dimension: by their labels, with numbers where `counted`."""
    what = dim.removesuffix("_b")
    named = {"layer": "name", "layer_b": "name_b"}.get(dim, dim)
    if named in values.coords:
        names = [str(name) for name in values.coords[named].values]
        if (role := named.replace("name", "role")) in values.coords and dim.startswith("layer"):
            names = layer_labels(names, values.coords[role].values)
        if counted:
            names = [f"{what} {i}: {name}" for i, name in enumerate(names, start=1)]
    else:
        names = [f"{what} {i}" for i in range(1, values.sizes[dim] + 1)]
    return {"what": what, "model": network, "names": names}


def _filled(scale: Scale, values: NDArray[Any]) -> dict[str, Any]:
    """Return a scale with the lowest and highest of all maps shown where it names no ends."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    ends = low if scale.low is None else scale.low, high if scale.high is None else scale.high
    return asdict(replace(scale, low=ends[0], high=ends[1]))


def pack(values: NDArray[Any], bits: int = 16) -> dict[str, Any]:
    """Quantise numbers over their own range: with 16 bits they are off by 1e-5 of it at most.

    The largest code stands for a missing number.
    """
    missing = 2**bits - 1
    finite = np.isfinite(values)
    known = np.asarray(values, dtype=np.float64)[finite]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    codes = np.full(values.shape, missing, dtype=f"<u{bits // 8}")
    if high > low:
        codes[finite] = np.round((known - low) / (high - low) * (missing - 1))
    else:
        codes[finite] = 0
    return {"low": low, "high": high, "data": base64.b64encode(codes.tobytes()).decode()}


def image_data(result: Result, title: str, compared: Sequence[str]) -> dict[str, Any] | None:
    """Pack pictures and the maps that lie over them; None where there are none.

    A network's part holds its pictures as `images` (image, row, column, channel) uint8. Maps are
    floats: (image, steps, row, column), where a step is a layer, a head or a channel, in that part
    or in those of its layers; (image, row, column) is one step.
    """
    pictured = [p for p in result.parts if p.network in compared and PICTURES in p.data]
    sets: dict[tuple[str, str], dict[str, Any]] = {}
    for owner in pictured:
        for part in result.parts:
            if part.network != owner.network:
                continue
            for name, values in part.data.data_vars.items():
                if not _lies_over(values, owner.data.sizes["image"]):
                    continue
                entry = sets.setdefault((str(name), owner.network), _set(owner, values))
                entry["steps"] += _steps(values, _label(part))
    if not sets:
        return None
    ordered = sorted(sets, key=lambda key: list(dict.fromkeys(k for k, _ in sets)).index(key[0]))
    return {
        "kind": "images",
        "title": title,
        "labels": _axis(pictured[0].data[PICTURES], "image", "")["names"],
        "images": {p.network: [_picture(one) for one in p.data[PICTURES].values] for p in pictured},
        "sets": [sets[key] for key in ordered],
    }


def _label(part: Part) -> str:
    return layer_labels([part.layer], [part.data.attrs.get("role", "")])[0]


def _set(owner: Part, values: xr.DataArray) -> dict[str, Any]:
    scale = Scale.of(values)
    along = str(values.dims[1]) if values.ndim == 4 else "layer"
    return {
        "measure": scale.label,
        "label": owner.network,
        "images": owner.network,
        "unit": str(values.attrs.get("units", "")),
        "scale": asdict(scale),
        "along": STEPS.get(along, along),
        "steps": [],
        "captions": _captions(owner.data),
    }


def _captions(data: xr.Dataset) -> list[str]:
    """Say for each image what a network's maps are of, where coordinates of the images tell."""
    known = [name for name in data.coords if data[name].dims == ("image",) and name != "image"]
    rows = zip(*(data[name].values for name in known), strict=True)
    return [
        ", ".join(f"{words(str(k))}: {v}" for k, v in zip(known, row, strict=True)) for row in rows
    ]


def _lies_over(values: xr.DataArray, images: int) -> bool:
    return (
        values.dims[0] == "image"
        and values.sizes["image"] == images
        and values.ndim in (3, 4)
        and values.dtype.kind == "f"
        and values.dims[-2:] == ("row", "column")
        and min(values.shape[-2:]) > 1
    )


def _steps(values: xr.DataArray, layer: str) -> list[dict[str, Any]]:
    """Return a map for each image and each step of what one steps through."""
    if values.ndim == 3:
        maps, names = values.values[:, None], [layer or Scale.of(values).label]
    else:
        dim = str(values.dims[1])
        maps = values.values
        names = _axis(values, dim, "", counted=dim == "layer")["names"]
        if layer:
            names = [f"{layer} {name}" for name in names]
    height, width = maps.shape[-2:]
    return [
        {
            "name": name,
            "height": height,
            "width": width,
            "maps": [pack(picture, 8) for picture in maps[:, step]],
        }
        for step, name in enumerate(names)
    ]


def words(name: str) -> str:
    """Write the name of a setting or variable for people."""
    return name.replace("_", " ")


def _picture(image: NDArray[np.uint8]) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    return picture_uri(picture, LARGE_PICTURE)
