"""Principal components of patches against NumPy's singular values."""

import numpy as np
import pytest

from zoo.measures.patch_components import component_colours, patch_components


@pytest.mark.parametrize("shape", [(4, 9, 12), (2, 4, 30)])
def test_components_are_those_of_the_singular_values(shape):
    x = np.random.default_rng(0).normal(3, 1, size=shape) * np.linspace(3, 1, shape[2])
    found = patch_components(x)
    flat = x.reshape(-1, shape[2])
    u, s, _ = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(found.scores.reshape(-1, 3)), np.abs(u * s)[:, :3])
    assert np.allclose(found.explained, s[:3] ** 2 / (s**2).sum())


def test_one_basis_gives_the_same_patch_the_same_colour_in_every_image():
    x = np.random.default_rng(0).normal(size=(3, 16, 8))
    x[2, 5] = x[0, 3]
    colours = component_colours(patch_components(x).scores)
    assert colours.shape == (3, 16, 3)
    assert np.array_equal(colours[2, 5], colours[0, 3])
    assert np.array_equal(component_colours(patch_components(x).scores), colours)


def test_colours_span_the_middle_of_the_scores():
    scores = np.random.default_rng(0).normal(size=(10, 100, 3)) * [1, 10, 100]
    colours = component_colours(scores)
    for c in range(3):
        assert (colours[..., c] == 0).mean() == pytest.approx(0.01, abs=0.005)
        assert (colours[..., c] == 255).mean() == pytest.approx(0.01, abs=0.005)
        order = np.argsort(scores[..., c].ravel())
        assert (np.diff(colours[..., c].ravel()[order].astype(int)) >= 0).all()


def test_degenerate_features_are_named():
    with pytest.raises(ValueError, match="are constant"):
        patch_components(np.ones((3, 4, 5)))
    flat = np.random.default_rng(0).normal(size=(3, 4, 2)) @ np.ones((2, 6))
    with pytest.raises(ValueError, match="fewer than 3 directions"):
        patch_components(flat)
    with pytest.raises(ValueError, match="not finite"):
        patch_components(np.full((3, 4, 5), np.nan))
    with pytest.raises(ValueError, match=r"3 or more patches and channels, got \(12, 2\)"):
        patch_components(np.zeros((3, 4, 2)))
