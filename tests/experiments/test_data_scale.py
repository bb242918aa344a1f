import statistics

import pandas as pd
import pytest

from zoo.experiments.data_scale import as_markdown, draw, gaps, over_seeds

COLUMNS = (
    "model", "subset", "seed", "images", "accuracy", "parameters", "images_seen", "seconds",
)  # fmt: skip
TRIALS = pd.DataFrame(
    [
        (model, subset, seed, images, accuracy + seed / 100, 10, 1000, 5.0)
        for model, subset, images, accuracy in [
            ("vit", "small", 100, 0.4), ("vit", "full", 1000, 0.8),
            ("cnn", "small", 100, 0.7), ("cnn", "full", 1000, 0.9),
        ]
        for seed in (0, 1, 2)
    ],
    columns=COLUMNS,
)  # fmt: skip


def test_seeds_are_averaged_with_their_deviation():
    point = over_seeds(TRIALS).iloc[0]
    assert (point.model, point.subset, point.seeds) == ("vit", "small", 3)
    assert point.accuracy == pytest.approx(0.41)
    assert point.deviation == pytest.approx(statistics.stdev([0.4, 0.41, 0.42]))
    assert "| 0.400 | 1 |" in as_markdown(over_seeds(TRIALS[:1]), 359)


def test_the_gap_is_that_of_the_means():
    found = gaps(over_seeds(TRIALS), "cnn", "vit")
    assert found == pytest.approx({"small": 0.3, "full": 0.1})
    assert [*found] == ["small", "full"]
    assert gaps(over_seeds(TRIALS), "cnn", "mixer") == {}


def test_table_and_figure_hold_every_point():
    points = over_seeds(TRIALS)
    assert "| vit | small | 100 | 0.410 ± 0.010 | 3 |" in as_markdown(points, 359)
    axis = draw(points[::-1], title="digits").axes[0]  # the larger subset first
    assert [list(line.get_xdata()) for line in axis.lines] == [[100, 1000]] * 2
    assert [line.get_label() for line in axis.lines] == ["cnn", "vit"]
    for line, (small, full) in zip(axis.lines, ((0.71, 0.91), (0.41, 0.81)), strict=True):
        assert line.get_ydata() == pytest.approx([small, full])
    assert axis.get_xscale() == "log"
