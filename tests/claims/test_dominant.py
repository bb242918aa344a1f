"""A claim that only a few images decide is named."""

from dataclasses import replace

import numpy as np
import pytest

from tests.claims import made
from tests.claims.made import CNN, VIT
from zoo.claims import judge
from zoo.claims.base import SUPPORTED, UNDECIDED
from zoo.claims.dominant import rest_on_few_images


def results(vit, fewer):
    """Layers of a ViT that are so alike with all images, and without the dominant ones."""
    kept, left = (
        made.cka({("v", "v"): np.full((7, 7), value), ("c", "c"): np.full((7, 7), 0.5)}).data
        for value in (vit, fewer)
    )
    found = made.found([VIT, CNN], cka=made.cka({("v", "c"): np.zeros((7, 7))}))
    whole = replace(found.results["cka"], data=kept.assign(cka_without_dominant=left["cka"]))
    return replace(found, results={"cka": whole})


def said(found, word=SUPPORTED):
    decided = [replace(v, verdict=word) for v in judge(found) if v.measurement]
    assert {v.claim.id for v in decided} == {"R-uniform", "R-ends"}
    return rest_on_few_images(found, decided)


def test_claims_that_a_few_images_decide_are_named():
    assert said(results(vit=0.8, fewer=0.3)) == [
        "Without the 5 % of images of highest leverage, R-uniform (−0.2) and R-ends (−0.2) would "
        "be on the other side of the threshold: a few images decide."
    ]


@pytest.mark.parametrize(("fewer", "word"), [(0.6, SUPPORTED), (0.3, UNDECIDED)])
def test_what_does_not_move_or_was_not_decided_is_not_named(fewer, word):
    assert said(results(vit=0.8, fewer=fewer), word) == []


def test_without_cka_nothing_rests_on_it():
    found = replace(results(0.8, 0.3), results={})
    assert rest_on_few_images(found, judge(found)) == []
