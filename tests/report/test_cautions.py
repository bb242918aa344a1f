"""What a reader is told before the numbers."""

import pytest

from zoo.report.cautions import cautions


def models(**steps):
    return {"models": [{"name": name, "steps": count} for name, count in steps.items()]}


def test_networks_of_different_numbers_of_steps_are_named():
    assert cautions(models(v=40, w=40, c=1560)) == [
        "v was trained for 40 steps, w for 40 and c for 1,560: what differs may come from that."
    ]


@pytest.mark.parametrize("known", [{}, models(v=40, c=40), models(v=40, c=0), models(v=0, c=0)])
def test_equal_or_unknown_steps_are_not_spoken_of(known):
    assert cautions(known) == []
