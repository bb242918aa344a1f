"""Results as one labelled tree that a file can hold: one group per analysis, and `maps`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from zoo.errors import UserError
from zoo.files import write_bytes
from zoo.study.results import ComparisonResults, Metric, Network, Part, Result, column

FORMAT = 1  # of the saved tree; one that is read otherwise gets the next number
MAPS = "maps"  # the group of what is of one network alone


def to_tree(results: ComparisonResults) -> xr.DataTree:
    """Return everything as one labelled tree: one group per analysis, and `maps` of networks."""
    columns = [f.name for f in dataclasses.fields(Network)]
    table = {
        key: ("network", column([getattr(n, key) for n in results.networks])) for key in columns
    }
    networks = xr.Dataset(table).rename(name="network")
    groups = {"/": xr.Dataset(attrs=_attributes(results)), "/networks": networks}
    for analysis, result in results.results.items():
        groups[f"/{analysis}"] = result.data.assign_attrs(
            notes=_lines(result.notes), images=result.images or results.images
        )
        groups |= _parts(f"/{MAPS}/{analysis}", result.parts)
    groups["/metrics"] = results.to_dataset()
    return xr.DataTree.from_dict(groups)


def _attributes(results: ComparisonResults) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "images": results.images,
        "class_names": _lines(results.class_names),
        "shown": list(results.shown),
        "provenance": json.dumps(results.provenance),
        "not_applicable": _lines(results.not_applicable),
        "not_applicable_since": _lines(results.not_applicable.values()),
    }


def write_tree(tree: xr.DataTree, path: Path) -> None:
    """Write a tree as NetCDF; each array of numbers has a checksum, which a reader compares."""
    checked: dict[str, dict[str, Any]] = {}
    for node in tree.subtree:
        checked[node.path] = {
            str(name): {"fletcher32": True, "chunksizes": held.shape}
            for name, held in node.to_dataset(inherit=False).variables.items()
            if held.size and held.ndim and held.dtype.kind in "biuf"  # HDF5 has none for text
        }
    # In memory first: where the disk gets full, HDF5 ends the process.
    write_bytes(path, tree.to_netcdf(engine="h5netcdf", encoding=checked))


def from_tree(tree: xr.DataTree) -> ComparisonResults:
    """Return what `to_tree` made a tree of.

    Raises:
        UserError: the tree has another format.
    """
    if (held := int(tree.attrs.get("format", 0))) != FORMAT:
        raise UserError(f"expected results of format {FORMAT}, got format {held}")
    table = tree["networks"].to_dataset()
    networks = tuple(
        Network(str(name), **{str(k): _value(table[k].values[i]) for k in table.data_vars})
        for i, name in enumerate(table["network"].values)
    )
    metrics = _metrics(tree["metrics"].to_dataset())
    known = tree.attrs
    maps = tree.children[MAPS].children if MAPS in tree.children else {}
    count = int(known["images"])
    found: dict[str, Result] = {}
    for analysis, node in tree.children.items():
        if analysis in ("networks", "metrics", MAPS):
            continue
        data = node.to_dataset(inherit=False)
        notes, images = _split(data.attrs.pop("notes")), int(data.attrs.pop("images"))
        rows = tuple(metrics.get(analysis, ()))
        own = images if images != count else None
        parts = tuple(_read_parts(maps[analysis])) if analysis in maps else ()
        found[str(analysis)] = Result(data, parts, rows, notes, own)
    idle = zip(_split(known["not_applicable"]), _split(known["not_applicable_since"]), strict=True)
    shown = tuple(int(i) for i in np.atleast_1d(known["shown"]))
    classes, provenance = _split(known["class_names"]), json.loads(known["provenance"])
    return ComparisonResults(networks, found, dict(idle), count, classes, shown, provenance)


def _lines(texts: Iterable[str]) -> str:
    """Return texts as one attribute: one line each, since none of them contains a newline."""
    return "\n".join(" ".join(text.splitlines()) for text in texts)


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _parts(group: str, parts: Sequence[Part]) -> dict[str, xr.Dataset]:
    """Return parts as groups. What a group is of stands in its attributes; its name only helps."""
    groups: dict[str, xr.Dataset] = {}
    for part in parts:
        # A slash would be a group within a group, whose axes have to be those of the outer one.
        of = {"network": part.network, "layer": part.layer, "network_b": part.network_b}
        path = f"{group}/{' '.join(filter(None, of.values())).replace('/', '∕')}"
        while path in groups:
            path += "'"
        groups[path] = part.data.assign_attrs(of)
    return groups


def _read_parts(node: xr.DataTree) -> Iterator[Part]:
    for child in node.children.values():
        data = child.to_dataset(inherit=False)
        of = {key: str(data.attrs.pop(key)) for key in ("network", "layer", "network_b")}
        yield Part(data=data, **of)


def _metrics(table: xr.Dataset) -> dict[str, list[Metric]]:
    found: dict[str, list[Metric]] = {}
    fields = [f.name for f in dataclasses.fields(Metric)]
    for i in range(table.sizes["row"]):
        row = {key: _value(table[key].values[i]) for key in fields}
        if table["is_count"].values[i]:
            row["value"] = int(row["value"])
        found.setdefault(str(table["analysis"].values[i]), []).append(Metric(**row))
    return found


def _value(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
