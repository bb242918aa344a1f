import numpy as np
import pytest

from zoo.claims import decide, measure_claim


def blocks(*cka, spread=0.01):
    """The CKA of blocks and what it might be on other images, each block by itself."""
    cka = np.array(cka, float)
    return np.vstack([cka, np.random.default_rng(0).normal(cka, spread, (1000, len(cka)))])


def judged(*values, **known):
    (verdict,) = decide([measure_claim(*values, n=50, **known)])
    return verdict


@pytest.mark.parametrize(
    ("claim", "values", "value", "verdict"),
    [
        ("R-data-low", [blocks(0.9, 0.5, 0.2)], 0.7, "supported"),
        ("R-data-low", [blocks(0.2, 0.5, 0.9)], -0.7, "not supported"),
        ("R-data-vit", [blocks(0.9, 0.5, 0.2), blocks(0.9, 0.8, 0.7)], 0.5, "supported"),
        ("R-data-vit", [blocks(0.9, 0.8, 0.7), blocks(0.9, 0.5, 0.2)], -0.5, "not supported"),
        ("R-transfer", [blocks(1.0, 0.9, 0.4)], 0.6, "supported"),
        ("R-transfer", [blocks(0.4, 0.9, 1.0)], -0.6, "not supported"),
    ],
)
def test_low_layers_agree_more_than_high_ones_or_do_not(claim, values, value, verdict):
    alike = [[blocks(0.5, 0.5, 0.5)] * len(values)]
    found = judged(claim, ("m",), [values], untrained=alike)
    assert found.value == pytest.approx(value)
    assert (found.verdict, found.models, found.n) == (verdict, ("m",), 50)
    before = judged(claim, ("m",), [values], untrained=[values]).verdict
    assert before == ("built in" if value > 0 else "not supported")


def test_the_interval_is_over_images_of_one_seed_and_over_seeds_of_several():
    one = judged("R-data-low", ("m",), [[blocks(0.9, 0.5, 0.2)]])
    # The lowest block minus the highest, each with a deviation of 0.01.
    half = 1.96 * 0.01 * np.sqrt(2)
    assert one.measurement.estimate == pytest.approx((0.7, 0.7 - half, 0.7 + half), abs=0.003)
    assert (one.measurement.over, one.held) == ("images", None)
    seeds = [[blocks(0.9, 0.5, high)] for high in (0.2, 0.3, 0.4)]
    several = judged("R-data-low", ("m",), seeds, untrained=seeds[::-1])
    half = 4.302653 * 0.1 / np.sqrt(3)  # Student's t with two degrees of freedom
    assert several.measurement.estimate == pytest.approx((0.6, 0.6 - half, 0.6 + half))
    assert (several.measurement.over, several.held) == ("seeds", (3, 3))
    # Trained minus untrained is paired by seed: −0.2, 0 and 0.2 of the highest block.
    assert several.change == pytest.approx((0, -2 * half, 2 * half))


@pytest.mark.parametrize(
    ("claim", "values", "reason"),
    [
        ("R-data-low", [blocks(np.nan, 0.5, 0.2)], "its layers could not be compared"),
        ("R-data-vit", [blocks(0.9, 0.2), blocks(np.nan, 0.2)], "its layers could not be compared"),
        ("R-transfer", [blocks(1.0, 1.0, 1.0, spread=0)], "no block has changed"),
    ],
)
def test_what_cannot_be_told_is_said(claim, values, reason):
    found = judged(claim, ("m",), [values])
    assert (found.verdict, found.value, found.detail) == ("not applicable", None, reason)
