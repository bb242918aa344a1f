"""Which models of a study attend over one grid of tokens, and which of their layers do.

Shared by the analyses of attention weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.measures.replicates import Replicates, in_rows
from zoo.study.accumulator import NotApplicable
from zoo.study.axes import head_counts, layer_axis
from zoo.study.networks import ComparedNetwork, Grid, Study, reads_class_token

# A head nearer than this share of even attention's distance is counted as local.
LOCAL = 0.5


@dataclass(frozen=True)
class Attending:
    """A model's attention over one grid of tokens.

    `layers` are named in execution order, all with the same number of `heads`; `class_token`
    says whether the classifier reads a class token (the first token of `grid`'s prefix).
    """

    name: str
    layers: tuple[str, ...]
    heads: int
    grid: Grid
    class_token: bool

    @property
    def tokens(self) -> int:
        """How many tokens attend, prefix tokens included."""
        return self.grid.num_prefix_tokens + self.grid.height * self.grid.width


def attending_models(study: Study, missing: str) -> tuple[dict[int, Attending], list[str]]:
    """Find the models whose attention can be followed over the image.

    Args:
        study: its networks are looked at.
        missing: what a note says of a model that does not suit, such as `no attention maps`.

    Returns:
        the suitable networks by their index among the study's, and notes on the compared ones
        that do not suit and on their layers that are left out.

    Raises:
        NotApplicable: no model suits.
    """
    found: dict[int, Attending] = {}
    notes: list[str] = []
    for s, network in enumerate(study.networks):
        suitable = _attending(network)
        if not isinstance(suitable, str):
            found[s] = suitable
        if not network.compared:
            continue
        if isinstance(suitable, str):
            notes.append(f"{network.name}: {missing}, since {suitable}")
            continue
        left_out = [name for name in network.trace.attention if name not in suitable.layers]
        if left_out:
            notes.append(
                f"{network.name}: left out, since not every token attends to every token there: "
                f"{', '.join(left_out)}"
            )
    if not found:
        raise NotApplicable("; ".join(notes))
    return found, notes


def attending_networks(study: Study) -> dict[int, Attending]:
    """Return the networks whose attention can be followed over the image, by index; maybe none."""
    each = {s: _attending(network) for s, network in enumerate(study.networks)}
    return {s: model for s, model in each.items() if isinstance(model, Attending)}


def _attending(network: ComparedNetwork) -> Attending | str:
    """Return a model's attention over its token grid, or why there is none."""
    if (why := _unsuitable(network)) or network.grid is None:
        return why or "it is not known how its tokens lie over the image"
    if network.grid.height * network.grid.width == 1:
        return "its only patch is the whole image"
    shapes = {layer.name: layer.attention for layer in network.trace if layer.attention}
    tokens = network.grid.num_prefix_tokens + network.grid.height * network.grid.width
    whole = {name: s[1] for name, s in shapes.items() if s[0] == 1 and s[2:] == (tokens, tokens)}
    if not whole:
        return f"none of its layers attends over all of its {tokens} tokens"
    heads = next(iter(whole.values()))
    layers = tuple(name for name, count in whole.items() if count == heads)
    return Attending(network.name, layers, heads, network.grid, reads_class_token(network))


def _unsuitable(network: ComparedNetwork) -> str:
    """Say what keeps a model's attention from one grid of tokens; empty where nothing does."""
    attending = {layer.name: layer.attends for layer in network.trace if layer.attends}
    if not attending:
        if network.trace.not_batch_first:
            return "its blocks do not put the images on the first axis (batch_first=True does)"
        return "none of its layers has softmax attention that can be seen"
    shapes = [found.shape for found in attending.values()]
    # Between all tokens, not where a class token alone asks.
    unread = [n for n, a in attending.items() if a.unread and a.shape[2] == a.shape[3]]
    if unread:
        return (
            f"the weights of {len(unread)} of its {len(attending)} attention layers cannot be "
            f"read: {unread[0]} {attending[unread[0]].unread}"
        )
    if any(windows > 1 for windows, *_ in shapes):
        return (
            "it attends within windows: its layers' weights do not lie over one grid of tokens and "
            "cannot be multiplied"
        )
    asked = dict.fromkeys(f"{queries} × {keys}" for _, _, queries, keys in shapes)
    if network.family != "vit" and len(asked) > 1:
        every = ", ".join(asked)
        return f"its layers do not attend over one grid of tokens: queries × keys are {every}"
    return ""


def by_head(
    networks: Sequence[ComparedNetwork],
    models: Mapping[int, Attending],
    found: Sequence[Replicates],
) -> tuple[Replicates, dict[str, Any]]:
    """Return numbers of heads (layers, heads) and the coordinates of their two axes.

    Args:
        networks: of the study.
        models: those that attend, by index.
        found: of each model's layers in turn (heads,).
    """
    rows = [(s, layer) for s, model in models.items() for layer in model.layers]
    heads = [models[s].heads for s, _ in rows]
    axis = layer_axis([(networks[s], layer) for s, layer in rows])
    return in_rows(found, max(heads)), axis | head_counts(heads)


def name_images(study: Study) -> tuple[str, ...]:
    """Return a name for each shown image: its index, with its class where that is known."""
    if study.labels is None:
        return tuple(f"image {i}" for i in study.shown)
    classes = dict(enumerate(study.class_names))
    kinds = [int(study.labels[i]) for i in study.shown]
    return tuple(
        f"{classes.get(kind, f'class {kind}')} (#{i})"
        for i, kind in zip(study.shown, kinds, strict=True)
    )
