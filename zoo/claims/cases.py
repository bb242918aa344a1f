"""Which models of a comparison a claim speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zoo.analyses.base import Subject
from zoo.claims.base import Models


def vit_and_cnn(models: Sequence[Subject]) -> Iterator[Models]:
    """Yield every ViT with every CNN."""
    for vit in _family(models, "vit"):
        for cnn in _family(models, "cnn"):
            yield vit, cnn


def vit_and_cnn_on_the_same_data(models: Sequence[Subject]) -> Iterator[Models]:
    """Yield every ViT with every CNN that was trained on the same images."""
    for vit, cnn in vit_and_cnn(models):
        if _subset(vit) and _subset(vit) == _subset(cnn):
            yield vit, cnn


def vit_on_less_and_more(models: Sequence[Subject]) -> Iterator[Models]:
    """Yield every pair of equal ViTs of which the second was trained on more images."""
    yield from _less_and_more(_family(models, "vit"))


def both_on_less_and_more(models: Sequence[Subject]) -> Iterator[Models]:
    """Yield (ViT on less, ViT on more, CNN on less, CNN on more), on the same two subsets."""
    for vit_less, vit_more in _less_and_more(_family(models, "vit")):
        for cnn_less, cnn_more in _less_and_more(_family(models, "cnn")):
            if (_subset(vit_less), _subset(vit_more)) == (_subset(cnn_less), _subset(cnn_more)):
                yield vit_less, vit_more, cnn_less, cnn_more


def _family(models: Sequence[Subject], family: str) -> list[Subject]:
    return [model for model in models if model.family == family]


def _subset(model: Subject) -> str:
    return model.model.spec.subset_digest


def _less_and_more(models: Sequence[Subject]) -> Iterator[Models]:
    for less in models:
        for more in models:
            a, b = less.model.spec, more.model.spec
            if (a.arch, a.source) == (b.arch, b.source) and 0 < a.subset_count < b.subset_count:
                yield less, more
