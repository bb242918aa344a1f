"""Figures of where networks differ: galleries of images, groups of images, confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zoo.figures import style
from zoo.figures.gallery import Row, gallery
from zoo.study.results import Result


def draw_gallery(result: Result, a: str, b: str) -> Figure:
    """Draw the images that only one of two networks, both, or neither classify correctly."""
    data = result.data
    n = data.sizes["image"]
    rows = []
    for pair, kind in (
        ((a, b), "only the first"), ((b, a), "only the first"), ((a, b), "both"),
        ((a, b), "neither"),
    ):  # fmt: skip
        of = of_pair(data, *pair).sel(kind=kind)
        count = float(of["gallery_images"])
        if np.isnan(count):
            continue
        images = [int(i) for i in of["gallery"].values if i >= 0]
        said = f"only {style.shorten(pair[0], 40)} is" if kind == "only the first" else f"{kind} is"
        said = said.replace("both is", "both are")
        rows.append(
            Row(
                f"{said} right: {count:.0f} of {n:,} images ({100 * count / n:.0f} %)",
                _pictures(data, images),
                [_answers(data, image, a, b) for image in images],
            )
        )
    return gallery(
        rows,
        foot=f"below an image: its class; in grey: the wrong answers, {style.shorten(a, 30)}'s "
        f"above {style.shorten(b, 30)}'s",
    )


def draw_groups(result: Result, groups: Mapping[tuple[str, str], xr.Dataset]) -> Figure:
    """Draw the groups of images close in the first and far in the second of each pair."""
    rows = []
    for (a, b), found in groups.items():
        names = style.shorten(a, 30), style.shorten(b, 30)
        if not found.sizes["group"]:
            rows.append(Row(f"close in {names[0]}, far in {names[1]}: no stable group", (), ()))
        for g in range(found.sizes["group"]):
            group = found.isel(group=g)
            images = [int(i) for i in group["group_members"].values if i >= 0]
            heading = (
                f"close in {names[0]} ({float(group['group_near']):.2f}), far in {names[1]} "
                f"({float(group['group_far']):.2f}): {float(group['group_size']):.0f} images, "
                f"stability {float(group['group_stability']):.2f}"
            )
            captions = [_class(result.data, image) for image in images]
            rows.append(Row(heading, _pictures(result.data, images), captions))
    return gallery(
        rows,
        foot="in brackets: mean rank of the group among its images' neighbours (0 nearest, "
        "0.5 at random); below an image: its class",
    )


def draw_confusion(result: Result, compared: Sequence[str]) -> Figure:
    """Draw which class's images are given which class, as shares of each class's images."""
    data = result.data
    names = [name for name in compared if name in data["rated"].values]
    classes = [str(name) for name in data["class"].values]
    maps = []
    for name in names:
        counts = data["confusion"].sel(rated=name).values.astype(float)
        total = counts.sum(axis=1, keepdims=True)
        shares = counts / np.where(total > 0, total, np.nan)
        title = f"{style.shorten(name, 24)}\nrows: class, columns: answer"
        maps.append(style.HeatMap(shares, classes, classes, "", "", title))
    return style.heat_maps(maps, colour_label="share of the class's images", low=0, high=1)


def of_pair(data: xr.Dataset, a: str, b: str) -> xr.Dataset:
    """Select what is of an ordered pair of networks."""
    at = (data["network"].values == a) & (data["network_b"].values == b)
    return data.isel(pair=int(np.flatnonzero(at)[0]))


def _pictures(data: xr.Dataset, images: Sequence[int]) -> list[NDArray[np.uint8]]:
    return [data["pictures"].sel(picture=image).values for image in images]


def _class(data: xr.Dataset, image: int) -> str:
    if "label" not in data.coords:
        return f"#{image}"
    return str(data["class"].values[int(data["label"][image])])


def _answers(data: xr.Dataset, image: int, a: str, b: str) -> str:
    """Return an image's class and, in lines below it, the answers that are wrong."""
    found = [int(data["answer"].sel(rated=name)[image]) for name in (a, b)]
    said = [str(data["class"].values[answer]) if answer >= 0 else "none" for answer in found]
    own = _class(data, image)
    return "\n".join([own, *(answer for answer in said if answer != own)])
