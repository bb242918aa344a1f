"""Stitches against scikit-learn's ridge regression, and places on other grids."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.nn import functional

from zoo.measures.ridge import PENALTIES
from zoo.measures.stitching import fit_stitches, resampling


def related(n=200, p=6, q=4, noise=0.5, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(1, 2, size=(n, p))
    return x, x @ random.normal(size=(p, q)) + 3 + noise * random.normal(size=(n, q))


HELD_OUT = np.arange(200) % 5 == 0


@pytest.mark.parametrize("width", [6, 300])
def test_maps_and_penalties_are_scikit_learns(width):
    x, y = related(p=width)
    noise = np.random.default_rng(2).normal(size=(200, 3))
    centred = x[~HELD_OUT] - x[~HELD_OUT].mean(axis=0)
    unit = (centred**2).sum() / width
    new = np.random.default_rng(1).normal(size=(5, width))
    for target, found in zip((y, noise), fit_stitches(x, [y, noise], HELD_OUT), strict=True):
        models = [
            Ridge(alpha=p * unit, solver="svd").fit(x[~HELD_OUT], target[~HELD_OUT])
            for p in PENALTIES
        ]
        errors = [((m.predict(x[HELD_OUT]) - target[HELD_OUT]) ** 2).sum() for m in models]
        best = int(np.argmin(errors))
        assert found.penalty == pytest.approx(PENALTIES[best] * unit)
        assert np.allclose(found(new), models[best].predict(new), atol=1e-6)


def test_a_linear_relation_is_found_and_noise_is_not():
    x, y = related(noise=0)
    noise = np.random.default_rng(2).normal(size=y.shape)
    exact, nothing = fit_stitches(x, [y, noise], HELD_OUT)
    assert np.allclose(exact(x), y, atol=1e-4)
    held = noise[HELD_OUT]
    assert ((nothing(x[HELD_OUT]) - held) ** 2).sum() > 0.9 * (
        (held - held.mean(axis=0)) ** 2
    ).sum()


@pytest.mark.parametrize("onto", [(4, 4), (2, 2), (8, 8), (3, 5), (1, 1)])
def test_the_matrix_resamples_as_the_library_does(onto):
    maps = torch.rand(2, 3, 4, 4)
    known = functional.interpolate(maps, size=onto, mode="bilinear", antialias=True)
    places = resampling((4, 4), onto) @ maps.flatten(2).transpose(1, 2)
    assert torch.allclose(places.transpose(1, 2).unflatten(2, onto), known, atol=1e-6)


def test_what_cannot_be_fitted_is_named():
    x, y = related()
    with pytest.raises(ValueError, match="same rows"):
        fit_stitches(x, [y[:-1]], HELD_OUT)
    with pytest.raises(ValueError, match="same rows"):
        fit_stitches(x, [y], np.zeros(200, bool))
    with pytest.raises(ValueError, match="features are constant"):
        fit_stitches(np.ones_like(x), [y], HELD_OUT)
