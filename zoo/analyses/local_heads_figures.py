"""The figure of local heads: CKA with a CNN's early layers against the heads' distance."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from zoo.figures import style
from zoo.measures.linear_cka import LABEL
from zoo.study.networks import layer_labels
from zoo.study.results import Part

LEAST_RANGE = 0.5  # patches: heads that look less far apart are ordered by chance


def draw_pair(part: Part) -> Figure:
    """Draw CKA of a ViT's heads with a CNN's early layers against the heads' distance."""
    data = part.data
    means = data["distance"].values
    layers = layer_labels(data["name"].values.tolist(), data["role"].values.tolist())
    with style.styled():
        figure, (axis,) = style.line_panels(size=(4.1, 2.4), above=0.1)
        # Shades, since the palette's colours stand for models.
        shades = mpl.colormaps[style.SEQUENTIAL](np.linspace(0, 0.85, len(layers)))
        for i, layer in enumerate(layers):
            colour = shades[i]
            # The first lines are broader, so that they show where a later one covers them.
            width = max(1.0, 3.4 - 0.8 * i)
            drawn = axis.plot(
                means, data["cka"].values[:, i], "o-", lw=width, ms=width + 2, color=colour
            )
            drawn[0].set_label(layer)
            if "cka_ci" in data:
                ends = data["cka_ci"].values[:, i].T
                axis.fill_between(means, *ends, color=colour, alpha=0.12, lw=0)
        axis.set_xlabel(f"mean attention distance of the heads of {part.network} (pixels)")
        axis.set_ylabel(LABEL)
        axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1)
        axis.legend(title=f"layers of {part.network_b}", title_fontsize=7, ncols=2)
    return figure
