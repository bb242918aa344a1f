import numpy as np
import pytest

from tests.claims.made import side
from zoo.claims import judge_values
from zoo.measures.depth import thirds


def curve(*cka):
    return thirds(np.array(cka, float), range(len(cka)))


@pytest.mark.parametrize(
    ("claim", "values", "value", "verdict"),
    [
        ("R-data-low", [curve(0.9, 0.5, 0.2)], 0.7, "supported"),
        ("R-data-low", [curve(0.2, 0.5, 0.9)], -0.7, "not supported"),
        ("R-data-vit", [curve(0.9, 0.5, 0.2), curve(0.9, 0.8, 0.7)], 0.5, "supported"),
        ("R-data-vit", [curve(0.9, 0.8, 0.7), curve(0.9, 0.5, 0.2)], -0.5, "not supported"),
        ("R-transfer", [curve(1.0, 0.9, 0.4)], 0.6, "supported"),
        ("R-transfer", [curve(0.4, 0.9, 1.0)], -0.6, "not supported"),
    ],
)
def test_low_layers_agree_more_than_high_ones_or_do_not(claim, values, value, verdict):
    found = judge_values(claim, ("m",), values, n=50)
    assert found.value == pytest.approx(value)
    assert (side(found), found.models, found.n) == (verdict, ("m",), 50)


@pytest.mark.parametrize(
    ("claim", "values", "reason"),
    [
        ("R-data-low", [curve(np.nan, 0.5, 0.2)], "its layers could not be compared"),
        ("R-data-vit", [curve(0.9, 0.2), curve(np.nan, 0.2)], "its layers could not be compared"),
        ("R-transfer", [curve(1.0, 1.0, 1.0)], "no block has changed"),
    ],
)
def test_what_cannot_be_told_is_said(claim, values, reason):
    found = judge_values(claim, ("m",), values, n=50)
    assert (found.verdict, found.value, found.detail) == ("not applicable", None, reason)
