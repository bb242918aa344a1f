"""The figure of local heads: CKA with a CNN's early layers against the heads' distance."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from zoo.figures import style
from zoo.measures.linear_cka import LABEL
from zoo.study.results import Result

LEAST_RANGE = 0.5  # patches: heads that look less far apart are ordered by chance


def draw(result: Result) -> dict[str, Figure]:
    """Draw, for each ViT and CNN, CKA against the heads' distance, a line a CNN layer."""
    found = [key.removeprefix("cka/") for key in result.arrays if key.startswith("cka/")]
    return {f"local-heads-{name}": _draw_pair(result, name) for name in found}


def _draw_pair(result: Result, name: str) -> Figure:
    cka, means = result.arrays[f"cka/{name}"], result.arrays[f"subset_distance/{name}"].values
    vit = result.arrays[f"subsets/{name}"].dims[1].removeprefix("head").strip("[]")
    cnn = cka.dims[1].removeprefix("layer").strip("[]")
    with style.styled():
        figure, (axis,) = style.line_panels(size=(4.1, 2.4), above=0.4)
        # Shades, since the palette's colours stand for models.
        layers = result.labels[cka.dims[1]]
        shades = mpl.colormaps[style.SEQUENTIAL](np.linspace(0, 0.85, len(layers)))
        for i, layer in enumerate(layers):
            colour = shades[i]
            # The first lines are broader, so that they show where a later one covers them.
            width = max(1.0, 3.4 - 0.8 * i)
            drawn = axis.plot(means, cka.values[:, i], "o-", lw=width, ms=width + 2, color=colour)
            drawn[0].set_label(layer)
            if f"low/{name}" in result.arrays:
                low, high = (result.arrays[f"{end}/{name}"].values[:, i] for end in ("low", "high"))
                axis.fill_between(means, low, high, color=colour, alpha=0.12, lw=0)
        reach = float(means[-1] - means[0])
        least = LEAST_RANGE * float(result.arrays[f"patch/{vit}"].values)
        if reach < least:
            axis.set_title(
                f"These heads look equally far: {reach:.2f} pixels apart, under half a patch\n"
                f"of {2 * least:g}. Their order is due to chance: the lines say nothing.",
                loc="left", fontsize=8,
            )  # fmt: skip
            # Stretched over the panel, the lines would look as if they ran from near to far.
            axis.set_xlim(means.mean() - least, means.mean() + least)
        axis.set_xlabel(f"mean attention distance of the heads of {vit} (pixels)")
        axis.set_ylabel(LABEL)
        axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1)
        axis.legend(title=f"layers of {cnn}", title_fontsize=7, ncols=2)
    return figure
