"""A map as opacity: how much of an image is seen, whatever its own brightness."""

import numpy as np
import pytest

from zoo.figures.seen_through import LEAST, OUTLINE, PAPER, SIDE, enlarge, seen_through

BLACK = np.zeros((8, 8, 3), np.uint8)
MAP = np.array([[1.0, 0.0], [0.5, np.nan]])


@pytest.mark.parametrize("brightness", [0, 100, 255])
def test_an_image_is_seen_where_the_map_is_high_and_fades_into_paper(brightness):
    drawn = seen_through(BLACK + np.uint8(brightness), MAP).astype(int)
    assert drawn.shape == (SIDE, SIDE, 3)
    seen = {
        (0, 0): 1, (0, 1): LEAST, (1, 0): (1 + LEAST) / 2, (1, 1): LEAST,
    }  # fmt: skip
    for (i, j), share in seen.items():
        cell = drawn[SIDE // 2 * i :, SIDE // 2 * j :][: SIDE // 2, : SIDE // 2]
        assert np.abs(cell - (share * brightness + (1 - share) * PAPER)).max() <= 0.5


def test_the_places_above_a_level_have_an_outline_inside_their_border():
    plain, drawn = seen_through(BLACK, MAP), seen_through(BLACK, MAP, 0.9)
    changed = (plain != drawn).any(axis=2)
    half = SIDE // 2
    assert changed[:half, :half].any()
    assert not changed[half:].any()
    assert not changed[:, half:].any()
    assert not changed[10 : half - 10, 10 : half - 10].any()
    assert tuple(drawn[0, 5]) == OUTLINE
    assert np.array_equal(seen_through(BLACK, MAP, 1.5), plain)


def test_pictures_keep_their_shape():
    assert enlarge(BLACK[:4]).shape == (SIDE // 2, SIDE, 3)
    assert seen_through(np.zeros((400, 300, 3), np.uint8), MAP).shape == (SIDE, SIDE * 3 // 4, 3)
