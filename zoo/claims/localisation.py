"""Claims on spatial localisation."""

from __future__ import annotations

from functools import partial

import numpy as np

from zoo.claims import cases
from zoo.claims.base import RAGHU, Claim, Draws, Measurement, Networks, Threshold, measured, of_two
from zoo.measures.counts import difference_draws
from zoo.measures.intervals import SHARE
from zoo.study.results import ComparisonResults, Network


def tokens_keep_place(results: ComparisonResults, networks: Networks) -> Measurement | None:
    """Measure the share of tokens that are most like their own patch."""
    metric, name = results.results["localisation"].metric, networks[0].name
    if (score := metric("score_last_block", name)) is None:
        return None
    tokens = metric("tokens", name)
    of_all = "tokens" if tokens is None else f"{tokens} tokens"
    draws = _draws(results, networks[0], score)
    detail = f"{100 * score:.0f} % of the last block's {of_all}"
    return measured(draws, detail, int(tokens or 0))


def _draws(results: ComparisonResults, network: Network, score: float) -> Draws:
    """Return the score and what it might be on other images; itself where that was not kept."""
    data = results.results["localisation"].data
    if "score_draws" not in data:
        return np.array([score])
    return np.asarray(data["score_draws"].sel(network=network.name).values)


def _above_chance(results: ComparisonResults, network: Network) -> Draws | None:
    """Return the score, and in every draw, from chance (0) to every token in its place (1)."""
    metric = results.results["localisation"].metric
    score, chance = metric("score_last_block", network.name), metric("chance", network.name)
    if score is None or chance is None or chance >= 1:
        return None
    return (_draws(results, network, score) - chance) / (1 - chance)


KEEPS_MORE = of_two(
    _above_chance,
    "above chance: {a} {first:.3f}, {b} {second:.3f}",
    difference_draws,
    count=True,
)
claim = partial(Claim, analysis="localisation", paper=RAGHU)
CLAIMS = (
    claim(
        id="R-place",
        figure="9",
        statement="Tokens of a ViT with a class token keep their place up to the last block",
        measured_as="share of tokens of the last block that are most like their own patch",
        threshold=Threshold("above", 0.5),
        why="'keep their place' means at least most tokens",
        applies_when="a ViT with a class token",
        cases=cases.cls_vits,
        measure=tokens_keep_place,
        within=SHARE,
    ),
    claim(
        id="R-place-cnn",
        figure="9",
        statement="A CNN's last locations keep their place much less than a ViT's tokens",
        measured_as="share of tokens most like their own patch, scaled so that chance is 0 and all "
        "is 1, ViT minus CNN",
        threshold=Threshold("above", 0),
        why="the figure is read by eye; measured from chance, since a coarse grid is easier to hit",
        applies_when="a ViT with a class token and a CNN",
        cases=cases.cls_vit_and_cnn,
        measure=KEEPS_MORE,
    ),
    claim(
        id="R-place-gap",
        figure="10",
        statement="Tokens of a ViT that pools their mean keep their place much less",
        measured_as="share of tokens most like their own patch, scaled so that chance is 0 and all "
        "is 1, class token minus mean",
        threshold=Threshold("above", 0),
        why="the figure is read by eye, so only its direction is tested",
        applies_when="a ViT with a class token and one that pools the mean of its tokens, trained "
        "on the same images",
        cases=cases.cls_and_gap_vit,
        measure=KEEPS_MORE,
    ),
)
