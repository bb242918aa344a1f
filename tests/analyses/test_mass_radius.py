"""The radius of a receptive field, against discs and against all distances, sorted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zoo.analyses.receptive_field import mass_radius

fields = arrays(
    np.float64,
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    elements=st.floats(0, 10, allow_nan=False).map(lambda v: round(v, 3)),
).filter(lambda field: field.sum() > 0)


def test_the_radius_of_a_single_pixel_is_zero():
    weights = np.zeros((9, 12))
    weights[2, 7] = 5
    assert mass_radius(weights, 0.5) == mass_radius(weights, 1.0) == 0


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_radius_of_an_even_field_is_that_of_a_disc_of_its_area(share):
    side = 101
    expected = side * math.sqrt(share / math.pi)  # as long as the disc lies within the square
    assert mass_radius(np.ones((side, side)), share) == pytest.approx(expected, abs=0.75)


@settings(max_examples=40, deadline=None)
@given(weights=fields, share=st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_the_radius_is_the_smallest_that_reaches_the_share(weights, share):
    total = weights.sum()
    cy = sum(weights[y].sum() * y for y in range(len(weights))) / total
    cx = sum(weights[:, x].sum() * x for x in range(weights.shape[1])) / total
    far = sorted(math.dist((y, x), (cy, cx)) for y, x in np.ndindex(weights.shape))

    def held(radius):
        return sum(
            weights[y, x]
            for y, x in np.ndindex(weights.shape)
            if math.dist((y, x), (cy, cx)) <= radius + 1e-9
        )

    expected = next(radius for radius in far if held(radius) >= share * total * (1 - 1e-9))
    assert mass_radius(weights, share) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(weights=fields)
def test_the_radius_grows_with_the_share_and_not_with_scale_or_place(weights):
    half, most = mass_radius(weights, 0.5), mass_radius(weights, 0.9)
    assert half <= most
    assert mass_radius(7 * weights, 0.5) == pytest.approx(half, abs=1e-6)
    moved = np.pad(weights, ((3, 0), (0, 2)))
    assert mass_radius(moved, 0.5) == pytest.approx(half, abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "share"),
    [(np.zeros((3, 3)), 0.5), (np.full((3, 3), np.nan), 0.5), (np.ones((3, 3)), 0.0)],
)
def test_a_field_without_mass_or_share_has_no_radius(weights, share):
    with pytest.raises(ValueError, match="expected a share"):
        mass_radius(weights, share)
