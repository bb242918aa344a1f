"""An audit of measures as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill

from matplotlib.figure import Figure

from zoo.experiments.audit import MAPS, QUESTIONS, Audited
from zoo.figures import style
from zoo.files.folders import FolderKind

TITLE = 28  # characters of a title's line
FOLDER = FolderKind("audit.json", ("models", "audit"), files=("audit.png", "audit.svg"))


def draw(found: Sequence[Audited]) -> Figure:
    """Draw the average precision of every measure beside chance, with d′ written at its dot."""
    questions = [q for q in QUESTIONS if any(one.question == q for one in found)]
    names = [m for m in MAPS if any(one.measure == m for one in found)]
    with style.styled():
        figure = style.new_figure(style.WIDTH, 0.9 + 0.24 * len(names))
        axes = figure.subplots(1, len(questions), sharey=True, squeeze=False)[0]
        for axis, question in zip(axes, questions, strict=True):
            own = {one.measure: one for one in found if one.question == question}
            for i, name in enumerate(names):
                if name not in own:
                    continue
                one = own[name]
                axis.plot(one.auprc, i, "o", color=style.COLOURS[1 if one.failed else 0], ms=5)
                if math.isfinite(one.d_prime):
                    text = f"d′ {one.d_prime:.1f}".replace("-", "−")
                    axis.text(1.06, i, text, va="center", fontsize=7)
                axis.axvline(one.chance, color="0.5", lw=0.8, ls=":")
            axis.set(xlim=(-0.03, 1.03), xlabel="AUPRC (dotted: a random order)")
            axis.set_title(fill(QUESTIONS[question], TITLE), loc="left", fontsize=8)
            axis.grid(axis="y", alpha=0.3)
        axes[0].set_yticks(range(len(names)), [MAPS[name][1] for name in names])
        axes[0].invert_yaxis()
    return figure
