import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from tests.claims import made
from tests.claims.made import CNN, LESS_AND_MORE, VIT, network, side, verdicts
from zoo.claims.accuracy import gap_narrows
from zoo.measures.intervals import paired_difference
from zoo.study.axes import column, variable
from zoo.study.results import INITIAL, Result

LABELS = np.zeros(400, dtype=int)


def accuracy(**hits):
    """A result of networks that are right on the first so many of 400 images."""
    predicted = np.stack([np.arange(400) >= count for count in hits.values()]).astype(int)
    data = xr.Dataset(
        {"predicted": variable(("network", "image"), predicted)},
        {"network": column(list(hits)), "label": ("image", LABELS)},
    )
    return Result(data)


INITIAL_NETWORKS = [
    replace(trained, name=f"{trained.name} untrained", state=INITIAL, compared=False)
    for trained in (VIT, CNN)
]


@pytest.mark.parametrize(
    ("cnn", "verdict"), [(320, "supported"), (302, "undecided"), (280, "not supported")]
)
def test_a_better_cnn_must_be_better_than_chance(cnn, verdict):
    before = {"v untrained": 40, "c untrained": 41}
    result = accuracy(v=300, c=cnn, **before)
    found = verdicts([VIT, CNN, *INITIAL_NETWORKS], accuracy=result)["Z-accuracy", ("v", "c")]
    assert (found.verdict, found.value, found.n) == (verdict, pytest.approx((cnn - 300) / 400), 50)
    assert found.before.value == pytest.approx(1 / 400)
    _, low, high = paired_difference(np.arange(400) < cnn, np.arange(400) < 300)
    assert found.measurement.estimate[1:] == (low, high)


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.0, 0.06, 0.12])
def test_a_gap_of_known_size_is_supported_at_its_power(gap):
    # Of 359 images, and of two untrained networks that guess among ten classes.
    random, trials, n = np.random.default_rng(0), 300, 359
    names = ["v", "c", *(network.name for network in INITIAL_NETWORKS)]
    supported = 0
    for _ in range(trials):
        right = random.random((4, n)) < np.array([0.7, 0.7 + gap, 0.1, 0.1])[:, None]
        data = xr.Dataset(
            {"predicted": variable(("network", "image"), (~right).astype(int))},
            {"network": column(names), "label": ("image", LABELS[:n])},
        )
        found = verdicts([VIT, CNN, *INITIAL_NETWORKS], accuracy=Result(data))
        supported += found["Z-accuracy", ("v", "c")].verdict == "supported"
    # Both the gap and what training added to it must be beyond noise, which they share.
    error = math.sqrt((0.7 * 0.3 + (0.7 + gap) * (0.3 - gap)) / n)
    change = math.hypot(error, math.sqrt(2 * 0.1 * 0.9 / n))
    shared = error / change
    power = scipy.stats.multivariate_normal.cdf(
        [gap / error - 1.96, gap / change - 1.96], cov=[[1, shared], [shared, 1]]
    )
    assert supported / trials == pytest.approx(power, abs=0.06)
    assert gap > 0 or supported / trials < 0.03


def test_the_order_of_the_models_changes_nothing():
    ways = (["v", "c"], {"v": 300, "c": 320}), (["c", "v"], {"c": 320, "v": 300})
    networks = {"v": VIT, "c": CNN}
    values = [
        verdicts([networks[n] for n in order], accuracy=accuracy(**hits))["Z-accuracy", ("v", "c")]
        for order, hits in ways
    ]
    assert values[0].value == values[1].value == pytest.approx(0.05)


def test_accuracy_of_networks_whose_start_is_not_known_supports_nothing():
    found = verdicts([VIT, CNN], accuracy=accuracy(v=200, c=380))["Z-accuracy", ("v", "c")]
    assert (found.verdict, found.before, found.change) == ("undecided", None, None)
    assert found.reason.endswith("what it was before training is not measured")


def test_models_of_other_data_are_not_held_against_each_other():
    result = accuracy(v=200, c=280)
    found = verdicts([VIT, network("c", "cnn", subset="t")], accuracy=result)
    assert found["Z-accuracy", ()].verdict == "not applicable"
    assert found["Z-accuracy", ()].detail.startswith("needs a ViT and a CNN that were trained")


def test_a_network_of_another_size_is_not_held_against_another():
    small = network("c", "cnn", parameters=4 * 10**6)
    found = verdicts([VIT, small], accuracy=accuracy(v=200, c=280))["Z-accuracy", ()]
    assert found.verdict == "not applicable"


@pytest.mark.parametrize(("more", "verdict"), [(20, "supported"), (120, "not supported")])
def test_the_gap_narrows_or_does_not(more, verdict):
    result = accuracy(v=200, c=280, w=240, d=240 + more)
    found = verdicts(LESS_AND_MORE, accuracy=result)["Z-gap", ("v", "w", "c", "d")]
    assert side(found) == verdict
    assert found.value == pytest.approx((80 - more) / 400)
    assert found.measurement.low < found.value < found.measurement.high


def test_a_gap_that_does_not_change_is_seldom_found_to_narrow():
    # Four networks that are right on 90 % of 359 images, by chance.
    random = np.random.default_rng(0)
    narrows = 0
    for _ in range(300):
        right = random.random((4, 359)) < 0.9
        data = xr.Dataset(
            {"predicted": variable(("network", "image"), (~right).astype(int))},
            {"network": column(["v", "w", "c", "d"]), "label": ("image", LABELS[:359])},
        )
        found = gap_narrows(made.found(LESS_AND_MORE, accuracy=Result(data)), tuple(LESS_AND_MORE))
        narrows += found.low > 0
    assert narrows / 300 < 0.05


WHOLE, WITHOUT = network("v", "vit"), network("n", "vit", arch="vit-noskip2")


@pytest.mark.parametrize(("whole", "verdict"), [(216, "supported"), (184, "not supported")])
def test_a_middle_blocks_skips_cost_accuracy_or_do_not(whole, verdict):
    result = accuracy(n=200, v=whole)
    found = verdicts([WITHOUT, WHOLE], accuracy=result)["R-noskip-cost", ("n", "v")]
    assert (side(found), found.value) == (verdict, pytest.approx((whole - 200) / 400))


def test_skips_are_weighed_against_the_same_network_on_the_same_images():
    for other in (
        network("v", "vit", subset="t"),
        network("v", "vit", arch="vit-gap"),
        network("v", "vit", subset=""),
    ):
        found = verdicts([WITHOUT, other], accuracy=accuracy(v=200, n=190))["R-noskip-cost", ()]
        assert found.verdict == "not applicable"
