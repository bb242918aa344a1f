"""Claims on right answers: asked of networks that give more of them than chance does."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from tests.claims.made import CNN, VIT, metrics, verdicts
from zoo.study.axes import column, variable
from zoo.study.results import Metric, Part, Result

CLEAR = [0.3, 0.2, 0.4]


def answers(**shares):
    """What networks answer to 100 images of two classes, 60 and 40, of which they get a share."""
    labels = np.repeat([0, 1], [60, 40])
    right = np.array([np.arange(100) % 100 < round(100 * share) for share in shares.values()])
    data = xr.Dataset(
        {"predicted": variable(("network", "image"), np.where(right, labels, 1 - labels))},
        {"network": column(list(shares)), "label": ("image", labels)},
    )
    return Result(data)


def kept(difference):
    each = [Metric("kept_shuffled_tiles", value, name) for name, value in (("v", 0.8), ("c", 0.5))]
    value, low, high = difference
    both = Metric("kept_shuffled_tiles_difference", value, "v", "c", low, high, pair="signed")
    return Result(metrics=(*each, both))


def verdict(difference=CLEAR, **known):
    return verdicts([VIT, CNN], robustness=kept(difference), **known)["N-shuffled", ("v", "c")]


@pytest.mark.parametrize(
    ("difference", "word"),
    [(CLEAR, "supported"), ([0.1, -0.1, 0.3], "undecided"), ([-0.3, -0.4, -0.2], "not supported")],
)
def test_the_number_alone_decides_where_all_networks_answer_better_than_chance(difference, word):
    found = verdict(difference, accuracy=answers(v=0.9, c=0.8))
    assert (found.verdict, found.before, found.change) == (word, None, None)


def test_of_a_network_at_chance_it_is_not_asked():
    # 65 % of 100 is not beyond the 60 % that naming the commoner class gets.
    found = verdict(accuracy=answers(v=0.9, c=0.65))
    assert (found.verdict, found.value) == ("not applicable", None)
    assert found.detail == "c answers no better than chance (65.0 % of 100)"


def test_where_accuracy_was_left_out_nothing_is_supported():
    assert verdict().verdict == "undecided"


@pytest.mark.parametrize(("pair", "sign"), [(("c", "v"), 1), (("v", "c"), -1)])
def test_a_vit_stands_high_noise_where_the_cnn_loses_more_to_it(pair, sign):
    ends = sorted([sign * 0.2, sign * 0.4])
    lost = metrics(
        lost_to_high_noise={"v": 0.1, "c": 0.4},
        lost_to_high_noise_difference={pair: [sign * 0.3, *ends]},
    )
    lost = replace(lost, parts=(Part("c", xr.Dataset(attrs={"answered_images": 80})),))
    found = verdicts([VIT, CNN], frequency=lost, accuracy=answers(v=0.9, c=0.8))
    noise = found["P-noise", ("v", "c")]
    assert noise.measurement.estimate == pytest.approx((0.3, 0.2, 0.4))
    assert (noise.verdict, noise.n) == ("supported", 80)
