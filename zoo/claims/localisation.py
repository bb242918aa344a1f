"""Claims on spatial localisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zoo.claims import cases
from zoo.claims.base import RAGHU, Claim, Measurement, Networks, above, measured, metric
from zoo.measures.intervals import SHARE
from zoo.study.results import ComparisonResults, Network


def tokens_keep_place(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the share of tokens that are most like their own patch."""
    score = metric(results, "localisation", networks[0], "score_last_block")
    if score is None:
        return None
    tokens = metric(results, "localisation", networks[0], "tokens")
    of_all = "tokens" if tokens is None else f"{tokens} tokens"
    draws = _draws(results, networks[0], score)
    detail = f"{100 * score:.0f} % of the last block's {of_all}"
    return measured(draws, detail, int(tokens or 0))


def keeps_more(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the first model's share above chance minus the second's."""
    first, second = (_above_chance(results, network) for network in networks)
    if first is None or second is None:
        return None
    detail = f"above chance: {networks[0].name} {first[0]:.3f}, {networks[1].name} {second[0]:.3f}"
    return measured(first - second, detail)


def _draws(results: ComparisonResults, network: Network, score: float) -> NDArray[np.float64]:
    """Return the score and what it might be on other images; itself where that was not kept."""
    data = results.results["localisation"].data
    if "score_draws" not in data:
        return np.array([score])
    return np.asarray(data["score_draws"].sel(network=network.name).values)


def _above_chance(results: ComparisonResults, network: Network) -> NDArray[np.float64] | None:
    """Return the score, and in every draw, from chance (0) to every token in its place (1)."""
    score, chance = (
        metric(results, "localisation", network, what) for what in ("score_last_block", "chance")
    )
    if score is None or chance is None or chance >= 1:
        return None
    return (_draws(results, network, score) - chance) / (1 - chance)


CLAIMS = (
    Claim(
        id="R-place",
        paper=RAGHU,
        figure="9",
        statement="Tokens of a ViT with a class token keep their place up to the last block",
        measured_as="share of tokens of the last block that are most like their own patch",
        threshold=above(0.5),
        why="'keep their place' must at least mean most tokens",
        applies_when="a ViT with a class token",
        analysis="localisation",
        cases=cases.cls_vits,
        measure=tokens_keep_place,
        within=SHARE,
    ),
    Claim(
        id="R-place-cnn",
        paper=RAGHU,
        figure="9",
        statement="A CNN's last locations keep their place much less than a ViT's tokens",
        measured_as="share in its own place, from chance (0) to all (1), ViT minus CNN",
        threshold=above(0),
        why="the figure is read by eye: a sign; from chance, since a coarse grid is easier to hit",
        applies_when="a ViT with a class token and a CNN",
        analysis="localisation",
        cases=cases.cls_vit_and_cnn,
        measure=keeps_more,
    ),
    Claim(
        id="R-place-gap",
        paper=RAGHU,
        figure="10",
        statement="Tokens of a ViT that pools their mean keep their place much less",
        measured_as="share in its own place, from chance (0) to all (1), class token minus mean",
        threshold=above(0),
        why="the figure is read by eye; the sign is the least that it says",
        applies_when="a ViT with a class token and one that pools the mean of its tokens, trained "
        "on the same images",
        analysis="localisation",
        cases=cases.cls_and_gap_vit,
        measure=keeps_more,
    ),
)
