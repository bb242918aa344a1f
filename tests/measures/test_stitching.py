"""Stitches against scikit-learn's ridge regression, and places on other grids."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from zoo.measures.stitching import MOST_ROWS, fit_stitch, resample_places


def related(n=40, places=9, p=6, q=4, noise=0.5, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(1, 2, size=(n, places, p))
    return x, x @ random.normal(size=(p, q)) + 3 + noise * random.normal(size=(n, places, q))


def test_the_map_is_scikit_learns_ridge():
    x, y = related()
    found = fit_stitch(x, y)
    known = Ridge(alpha=found.penalty).fit(x.reshape(-1, 6), y.reshape(-1, 4))
    new = np.random.default_rng(1).normal(size=(5, 9, 6))
    assert np.allclose(found(new), known.predict(new.reshape(-1, 6)).reshape(5, 9, 4))
    assert 0.9 < found.explained < 1


def test_a_linear_relation_is_found_and_noise_is_not():
    x, y = related(noise=0)
    exact = fit_stitch(x, y)
    assert exact.explained == pytest.approx(1, abs=1e-9)
    assert np.allclose(exact(x), y, atol=1e-4)
    noise = np.random.default_rng(2).normal(size=y.shape)
    assert abs(fit_stitch(x, noise).explained) < 0.1


def test_features_wider_than_images_are_fitted_and_many_rows_are_drawn():
    x, y = related(n=10, places=1, p=50)
    assert np.isfinite(fit_stitch(x, y)(x)).all()
    x, y = related(n=100, places=MOST_ROWS // 50)
    one, other = fit_stitch(x, y, seed=1), fit_stitch(x, y, seed=1)
    assert np.array_equal(one(x[:2]), other(x[:2]))
    assert one.explained > 0.95


def test_places_move_onto_another_grid():
    rows = torch.arange(4.0).repeat_interleave(4).view(1, 16, 1)
    assert torch.equal(resample_places(rows, (4, 4), (4, 4)), rows)
    small = resample_places(rows, (4, 4), (2, 2))[0, :, 0]
    assert torch.allclose(small[0], small[1])
    assert torch.allclose(small[0] + small[2], torch.tensor(3.0))
    large = resample_places(rows, (4, 4), (8, 8))[0, :, 0].view(8, 8)
    assert (large.diff(dim=0) >= 0).all()
    assert torch.allclose(large.mean(), rows.mean())
    one = torch.rand(2, 1, 5)
    assert torch.allclose(resample_places(one, (1, 1), (3, 3)), one.expand(2, 9, 5))


def test_what_cannot_be_fitted_is_named():
    x, y = related()
    with pytest.raises(ValueError, match="same 5 or more images"):
        fit_stitch(x, y[:-1])
    with pytest.raises(ValueError, match="same 5 or more images"):
        fit_stitch(x[:4], y[:4])
    with pytest.raises(ValueError, match="features are constant"):
        fit_stitch(np.ones_like(x), y)
