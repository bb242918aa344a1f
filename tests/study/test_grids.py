"""How tokens lie over the image, also where patches are not square."""

import numpy as np
import pytest
import timm
import torch
from scipy.spatial.distance import cdist

from zoo.analyses.attention_distance import patch_distances
from zoo.capture.layers import trace
from zoo.models.files import describe_module
from zoo.study.networks import Grid, family_of, token_grid


@pytest.mark.parametrize(
    ("patch_size", "expected"),
    [((2, 4), Grid(1, 8, 4, 4.0)), ((8, 4), Grid(1, 2, 4, 8.0)), ((2, 8), Grid(1, 8, 2, 8.0))],
)
def test_a_grid_that_timm_states_need_not_be_square(patch_size, expected):
    size = {"img_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}
    net = timm.create_model("vit_tiny_patch16_224", patch_size=patch_size, **size)
    found = trace(net, torch.zeros(1, 3, 16, 16))
    grid = token_grid(describe_module(net, name="v", image_size=16), found, family_of(found))
    assert grid == expected
    assert grid.patch_sides == patch_size


def test_distances_over_patches_that_are_not_square_are_those_of_their_centres():
    rows, columns = np.divmod(np.arange(8), 2)
    centres = np.stack([(rows + 0.5) * 2, (columns + 0.5) * 8], axis=1)
    assert patch_distances(4, 2, (2.0, 8.0)).numpy() == pytest.approx(cdist(centres, centres))
