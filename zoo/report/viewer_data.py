"""What the page's interactive parts draw: saved arrays, packed small enough to travel in it.

Names of arrays say what they hold: `<what>/<model or pair>` or `<what>/<model>/<layer>`.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

INTERVAL = ("low", "high")
MOST_COLUMNS = 256  # of a heat map whose columns are not layers
STEPS = {
    "layer": "Depth, from input to output",
    "head": "Head",
    "rank": "Layer, and channel from the strongest",
}

Data = Mapping[str, Any]
Arrays = Mapping[str, tuple[NDArray[Any], tuple[str, ...]]]


def split_name(name: str, models: Sequence[str]) -> tuple[str, str, str]:
    """Split a name into what it holds, the model or pair that it is of, and the rest.

    Models' names may hold slashes and begin with one another.

    >>> split_name("mean/vit/2/layer1.0", ["vit", "vit/2"])
    ('mean', 'vit/2', 'layer1.0')
    >>> split_name("cka/a__b", ["a", "b"])
    ('cka', 'a × b', '')
    """
    what, _, rest = name.partition("/")
    subjects = {m: m for m in models} | {
        f"{a}__{b}": f"{a} × {b}" for a, b in product(models, models)
    }
    for key in sorted(subjects, key=len, reverse=True):
        if rest == key or rest.startswith(f"{key}/"):
            return what, subjects[key], rest[len(key) + 1 :]
    return what, "", rest


def words(name: str) -> str:
    """Write a name of an array or metric for people."""
    return name.replace("__", " × ").replace("_", " ").replace("/", " · ")


def is_heat_map(name: str, arrays: Arrays) -> bool:
    """Say whether an array is a matrix over layers (and layers, heads, tokens, …)."""
    values, dims = arrays[name]
    return (
        len(dims) == 2
        and dims[0].startswith("layer[")
        and values.dtype.kind == "f"
        and min(values.shape) > 1
        and (dims[1].startswith(("layer[", "head[")) or 4 <= values.shape[1] <= MOST_COLUMNS)
    )


def heat_map_data(analysis: Data, arrays: Arrays, models: Sequence[str]) -> dict[str, Any] | None:
    """Pack matrices over layers, with their intervals where these are known; None without any."""
    names = [n for n in arrays if is_heat_map(n, arrays) and n.split("/")[0] not in INTERVAL]
    kinds = _in_order([name.split("/")[0] for name in names], analysis)
    maps = []
    for name in sorted(names, key=lambda name: kinds.index(name.split("/")[0])):
        values, dims = arrays[name]
        what, subject, rest = split_name(name, models)
        own = name.partition("/")[2] if len(kinds) == 1 else name
        ends = [arrays[f"{end}/{own}"][0] for end in INTERVAL if f"{end}/{own}" in arrays]
        maps.append(
            {
                "measure": scale_of(what, analysis)["label"],
                "label": " · ".join(filter(None, (subject, words(rest)))) or words(what),
                "unit": analysis["units"].get(name, ""),
                "rows": _axis(
                    dims[0],
                    values.shape[0],
                    analysis["labels"],
                    counted=dims[1].startswith("head["),  # heads are counted, and layers with them
                ),
                "columns": _axis(dims[1], values.shape[1], analysis["labels"]),
                "value": pack(values),
                "interval": [pack(end) for end in ends if end.shape == values.shape],
                # One colour range a kind: its maps are read against each other.
                "scale": _filled(
                    scale_of(what, analysis),
                    [arrays[n][0] for n in names if n.split("/")[0] == what],
                ),
            }
        )
    if not maps:
        return None
    return {"kind": "heat", "title": analysis["title"], "maps": maps}


def _axis(
    dim: str, size: int, labels: Mapping[str, Sequence[str]], *, counted: bool = False
) -> dict[str, Any]:
    """Name the places along a dimension: by their labels, with their numbers where `counted`."""
    match = re.fullmatch(r"(\w+)\[(.*)\]", dim)
    what, model = (match[1], match[2]) if match else (dim, "")
    names = list(labels.get(dim, ()))
    if len(names) != size:
        names = [f"{what} {i}" for i in range(1, size + 1)]
    elif counted:
        names = [f"{what} {i}: {name}" for i, name in enumerate(names, start=1)]
    return {"what": what, "model": model, "names": names}


def scale_of(what: str, analysis: Data) -> dict[str, Any]:
    """Return how arrays of one kind are named and coloured: as the analysis says, or plainly."""
    plain = {"label": words(what), "low": None, "high": None, "log": False, "empty": ""}
    return plain | analysis["scales"].get(what, {})


def _in_order(kinds: Sequence[str], analysis: Data) -> list[str]:
    """Return each kind of arrays once: in the order of the analysis' scales, then all others."""
    known = [kind for kind in analysis["scales"] if kind in kinds]
    return list(dict.fromkeys([*known, *kinds]))


def _filled(scale: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """Return a scale with the lowest and highest of all its maps where it names no ends."""
    finite = np.concatenate([a[np.isfinite(a)].ravel() for a in arrays])
    ends = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    found = dict(zip(("low", "high"), ends, strict=True))
    return scale | {end: found[end] for end in found if scale[end] is None}


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


def image_data(analysis: Data, arrays: Arrays, models: Sequence[str]) -> dict[str, Any] | None:
    """Pack images and the maps that lie over them; None where there are no such arrays.

    Images are `images` or `images/<model>` (image, row, column, channel) uint8; maps are floats
    (image, steps, row, column), where a step is a layer or a head, or one array a layer (image,
    row, column).
    """
    pictures = {
        split_name(name, models)[1]: [_png(picture) for picture in values]
        for name, (values, _) in arrays.items()
        if name.split("/")[0] == "images" and values.dtype == np.uint8 and values.ndim == 4
    }
    sets: dict[tuple[str, str], dict[str, Any]] = {}
    for name, (values, dims) in arrays.items():
        what, model, rest = split_name(name, models)
        under = model if model in pictures else ""
        if under not in pictures or not _lies_over(values, dims, len(pictures[under])):
            continue
        entry = {
            "measure": scale_of(what, analysis)["label"],
            "label": model or words(what),
            "images": under,
            "unit": analysis["units"].get(name, ""),
            "scale": scale_of(what, analysis),
            "along": _along(dims),
            "steps": [],
        }
        steps = sets.setdefault((what, model), entry)["steps"]
        steps += _steps(values, dims, rest or entry["measure"], analysis["labels"])
    if not sets:
        return None
    for (_, model), entry in sets.items():
        entry["captions"] = _captions(model, [what for what, of in sets if of == model], analysis)
    kinds = _in_order([what for what, _ in sets], analysis)
    count = len(next(iter(pictures.values())))
    labels = _axis("image", count, analysis["labels"])["names"]
    return {
        "kind": "images",
        "title": analysis["title"],
        "labels": labels,
        "images": pictures,
        "sets": [sets[key] for key in sorted(sets, key=lambda key: kinds.index(key[0]))],
    }


def _along(dims: Sequence[str]) -> str:
    """Say what one steps through: what a map's second dimension is, or layers by their names."""
    what = dims[1].partition("[")[0] if len(dims) == 4 else "layer"
    return STEPS.get(what, what)


def _captions(model: str, kinds: Sequence[str], analysis: Data) -> list[str]:
    """Say for each image what a model's maps are of, where labels of their kinds tell."""
    known = {
        kind: analysis["labels"][f"{kind}[{model}]"]
        for kind in kinds
        if f"{kind}[{model}]" in analysis["labels"]
    }
    rows = zip(*known.values(), strict=True)
    return [", ".join(f"{words(k)}: {v}" for k, v in zip(known, row, strict=True)) for row in rows]


def _lies_over(values: NDArray[Any], dims: Sequence[str], images: int) -> bool:
    return (
        dims[0] == "image"
        and len(values) == images
        and values.ndim in (3, 4)
        and values.dtype.kind == "f"
        and min(values.shape[-2:]) > 1
    )


def _steps(
    values: NDArray[Any], dims: Sequence[str], name: str, labels: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    if values.ndim == 3:
        values, names = values[:, None], [name]
    else:
        counted = dims[1].startswith("layer[")  # as in the figures' columns
        names = _axis(dims[1], values.shape[1], labels, counted=counted)["names"]
        if not re.match(r"(layer|head)\[", dims[1]):
            names = [f"{name} {place}" for place in names]
    height, width = values.shape[-2:]
    return [
        {
            "name": name,
            "height": height,
            "width": width,
            "maps": [pack(picture, 8) for picture in values[:, step]],
        }
        for step, name in enumerate(names)
    ]


def _png(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return data_uri(file.getvalue(), "image/png")


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as a URI that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
