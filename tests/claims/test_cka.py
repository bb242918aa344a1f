from dataclasses import replace

import numpy as np
import pytest

from tests.claims.made import (
    CNN,
    LARGER,
    LESS_AND_MORE,
    VIT,
    cka,
    network,
    side,
    untrained,
    verdicts,
)


@pytest.mark.parametrize(("vit", "verdict"), [(0.8, "supported"), (0.4, "not supported")])
def test_a_vits_layers_are_more_alike_or_not(vit, verdict):
    own = {(name, name): np.full((7, 7), value) for name, value in (("v", vit), ("c", 0.5))}
    for cells in own.values():  # a layer with itself does not count, nor does the head
        np.fill_diagonal(cells, 1)
        cells[6, :6] = cells[:6, 6] = 0
    found = verdicts([VIT, CNN], cka=cka(own))
    assert side(found["R-uniform", ("v", "c")]) == verdict
    assert found["R-ends", ("v", "c")].value == pytest.approx(vit - 0.5)


def test_where_a_cnns_lower_half_finds_its_match():
    low = np.full((7, 7), 0.1)
    low[0, :6] = 0.9
    found = verdicts([VIT, CNN], cka=cka({("v", "c"): low}))
    assert side(found["R-lower-half", ("v", "c")]) == "supported"
    assert side(found["R-top", ("v", "c")]) == "supported"
    assert found["R-top", ("v", "c")].value == pytest.approx(0.1 / 0.5)
    high = np.full((7, 7), 0.1)
    high[5, :6] = 0.9
    found = verdicts([VIT, CNN], cka=cka({("v", "c"): high}))
    assert side(found["R-lower-half", ("v", "c")]) == "not supported"
    assert side(found["R-top", ("v", "c")]) == "not supported"


def test_a_networks_ends_are_its_first_and_its_last_quarter_of_layers():
    vit = np.full((7, 7), 0.3)
    vit[0, 5] = vit[5, 0] = 0.9  # stem and last block; the head does not count
    result = cka({("v", "v"): vit, ("c", "c"): np.full((7, 7), 0.5)})
    found = verdicts([VIT, CNN], cka=result)["R-ends", ("v", "c")]
    assert found.value == pytest.approx(0.9 - 0.5)


@pytest.mark.parametrize(("lower", "upper", "share"), [(0, 4, 1), (4, 0, 0)])
def test_the_lower_half_of_a_cnn_is_asked_for_its_match_and_not_the_upper(lower, upper, share):
    cells = np.full((7, 7), 0.1)
    cells[lower, :3] = cells[upper, 3:6] = 0.9  # stem and two blocks, and three blocks
    found = verdicts([VIT, CNN], cka=cka({("v", "c"): cells}))["R-lower-half", ("v", "c")]
    assert found.value == share


def of_groups(spread, lead):
    """The ViT's first layer leads its fifth by so much; without a group each layer's CKA moves."""
    low = np.full((7, 7), 0.1)
    low[0, :6], low[4, :6] = 0.6 + lead, 0.6
    result = cka({("v", "c"): low})
    moves = np.random.default_rng(0).normal(size=(32, *result.data["cka"].shape))
    moves *= spread * np.sqrt(32 / 31) / np.sqrt((moves**2).sum(axis=0))
    dims = ("replicate", "layer", "layer_b")
    known = {"weight": np.full(32, 31 / 32), "freedom": 31}
    without = {"cka_without": (dims, result.data["cka"].values + moves, known)}
    return replace(result, data=result.data.assign(without))


def test_best_matches_by_a_hair_may_all_be_elsewhere():
    sure, close, behind = (
        verdicts([VIT, CNN], cka=of_groups(0.02, lead))["R-lower-half", ("v", "c")]
        for lead in (0.2, 0.02, -0.2)
    )
    assert sure.measurement.estimate == (1, 1, 1)
    assert sure.p == pytest.approx(2 / 1001)
    assert close.measurement.estimate == (1, 0, 1)
    assert close.verdict == "undecided"
    assert behind.measurement.estimate == (0, 0, 0)
    assert behind.verdict == "not supported"


def test_cells_that_could_not_be_measured_give_no_verdict():
    values = np.full((7, 7), 0.5)
    values[2, 3] = np.nan
    found = verdicts([VIT, CNN], cka=cka({("v", "c"): values}))["R-top", ("v", "c")]
    assert (found.verdict, found.value) == ("not applicable", None)


@pytest.mark.parametrize(("vit", "verdict"), [(0.3, "supported"), (0.9, "not supported")])
def test_a_vit_on_little_data_is_farther_off_or_not(vit, verdict):
    result = cka({("v", "w"): np.eye(7) * vit, ("c", "d"): np.eye(7) * 0.6})
    found = verdicts(LESS_AND_MORE, cka=result)
    assert side(found["Z-far", ("v", "w", "c", "d")]) == verdict
    assert found["Z-far", ("v", "w", "c", "d")].value == pytest.approx(vit - 0.6)


@pytest.mark.parametrize(("higher", "verdict"), [(0.3, "supported"), (0.9, "not supported")])
@pytest.mark.parametrize("pair", [("v", "w"), ("w", "v")])
def test_lower_blocks_agree_across_data_or_do_not(pair, higher, verdict):
    # Stem and head do not count, nor does the middle one of five blocks.
    same = np.diag([0, 0.8, 0.8, 0, higher, higher, 0])
    found = verdicts(LESS_AND_MORE[:2], cka=cka({pair: same}))["R-low-agree", ("v", "w")]
    assert (side(found), found.value) == (verdict, pytest.approx(0.8 - higher))


@pytest.mark.parametrize(("larger", "verdict"), [(0.3, "supported"), (0.9, "not supported")])
def test_a_larger_vit_on_little_data_is_farther_off_than_a_smaller_one_or_is_not(larger, verdict):
    # The mean of five blocks: that of the lowest differs, stem and head do not count.
    of_smaller, of_larger = np.diag([0, 0.8, *[0.6] * 4, 0]), np.diag([0, 0.5, *[larger] * 4, 0])
    result = cka({("v", "w"): of_smaller, ("y", "x"): of_larger})
    found = verdicts([*LARGER, *LESS_AND_MORE[:2]], cka=result)["R-size-data", ("x", "y", "v", "w")]
    expected = (0.5 + 4 * larger) / 5 - (0.8 + 4 * 0.6) / 5
    assert (side(found), found.value) == (verdict, pytest.approx(expected))


def test_before_training_each_size_is_held_against_itself_on_more_data():
    initial = untrained([LARGER[0], LESS_AND_MORE[0]])
    alike = {("v", "w"): 0.8, ("x", "y"): 0.4, ("v0", "w"): 0.3, ("x0", "y"): 0.2}
    result = cka({pair: np.eye(7) * value for pair, value in alike.items()})
    networks = [*LARGER, *LESS_AND_MORE[:2], *initial]
    found = verdicts(networks, cka=result)["R-size-data", ("x", "y", "v", "w")]
    assert (found.value, found.before.value) == pytest.approx((0.4 - 0.8, 0.2 - 0.3))
    assert found.change[0] == pytest.approx((0.4 - 0.2) - (0.8 - 0.3))  # what little data added


WHOLE, WITHOUT = network("v", "vit"), network("n", "vit", arch="vit-noskip2")


def map_of(across):
    """CKA of seven layers: stem, blocks 0 to 4, head; blocks 0 and 1 with 3 and 4 are `across`."""
    values = np.full((7, 7), 0.99)
    values[1:3, 4:6] = values[4:6, 1:3] = across
    return values


@pytest.mark.parametrize(("across", "verdict"), [(0.2, "supported"), (0.7, "not supported")])
def test_a_map_splits_at_the_block_without_skips_or_does_not(across, verdict):
    result = cka({("n", "n"): map_of(across), ("v", "v"): map_of(0.6)})
    found = verdicts([WHOLE, WITHOUT], cka=result)["R-noskip-split", ("n", "v")]
    assert (side(found), found.value) == (verdict, pytest.approx(across - 0.6))


@pytest.mark.parametrize("block", [0, 4])
def test_the_first_and_the_last_block_split_nothing(block):
    without = network("n", "vit", arch=f"vit-noskip{block}")
    result = cka({("n", "n"): map_of(0.2), ("v", "v"): map_of(0.6)})
    found = verdicts([VIT, without], cka=result)["R-noskip-split", ("n", "v")]
    assert (found.verdict, found.value) == ("not applicable", None)
    assert found.detail == f"block {block} of n has no compared blocks on both its sides"


MIXER = network("m", "mlp")


@pytest.mark.parametrize(("vit", "verdict"), [(0.6, "supported"), (0.3, "not supported")])
def test_a_mixer_is_more_like_a_vit_or_is_not(vit, verdict):
    with_vit, with_cnn = np.full((7, 7), vit), np.full((7, 7), 0.5)
    with_vit[-1] = with_cnn[:, -1] = 0  # heads do not count
    result = cka({("v", "m"): with_vit, ("m", "c"): with_cnn})
    found = verdicts([VIT, CNN, MIXER], cka=result)["R-mixer", ("m", "v", "c")]
    assert (side(found), found.value) == (verdict, pytest.approx(vit - 0.5))
