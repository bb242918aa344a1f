"""How the gap study's networks see: which numbers of a comparison are taken, and what is drawn."""

import dataclasses

import numpy as np
import pytest

from tests.claims import made
from tests.claims.made import CNN, VIT
from zoo.experiments.gap_representation import (
    MEASURES,
    MUCH,
    UNTRAINED,
    Seen,
    Summary,
    _measures,
    as_markdown,
    draw,
    summarise_seen,
)


def test_what_is_taken_of_a_comparison_is_what_the_table_says():
    cells = np.full((7, 7), 0.1)
    cells[5, 5] = 0.6  # the last block of each; the head comes after it
    matches = {("v", "c"): 0.7, ("v", MUCH): 0.8}
    highest = {name: [-1.0, -2.0, -3.0, -4.0, -5.0, last] for name, last in (("v", -6), ("c", -9))}
    results = made.found(
        [VIT, CNN],
        cka=made.cka({("v", "c"): cells}, {"mean_best_match": matches}),
        attention_distance=made.metrics(
            lowest_layer_mean={"v": 3.0}, highest_layer_mean={"v": 9.0}, uniform={"v": 12.0}
        ),
        receptive_field=made.metrics(
            radius50_first_block={"v": 0.1},
            radius90_first_block={"v": 0.4},
            radius90_last_block={"v": 0.9},
        ),
        frequency=made.by_layer([], highest=highest),
    )
    taken = dict(zip(MEASURES, _measures(results, "v", "c"), strict=True))
    assert taken == {
        "cka_with_cnn": 0.7,
        "last_cka_with_cnn": 0.6,
        "cka_with_much": 0.8,
        "attention_distance": 3 / 12,
        "field": 0.4,
        "high_frequency": -6,
    }
    of_cnn = dict(zip(MEASURES, _measures(results, "c", "c"), strict=True))
    assert (of_cnn["last_cka_with_cnn"], of_cnn["attention_distance"]) == (None, None)


def drawn(container):
    """A point's place, and the ends of its bar."""
    x, y = (float(values[0]) for values in container.lines[0].get_data())
    (bar,) = container.lines[2][0].get_segments()
    return x, y, *bar[:, 0]


def test_points_stand_at_their_models_with_the_ends_of_their_own_intervals():
    models = ("vit", "vit-cct", "cnn", MUCH, UNTRAINED)
    rows = [
        Summary(model, 500, measure, 3, *(10 * i + j + end for end in (0, -0.2, 0.5)))
        for i, measure in enumerate(MEASURES)
        for j, model in enumerate(models)
        if (model, measure) != ("cnn", "attention_distance")
    ]
    other = [dataclasses.replace(row, images=1000, value=-1) for row in rows]
    figure = draw([*other, *rows], images=500, baseline="vit", cnn="cnn", title="t")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(models)
    for axis, (measure, words) in zip(figure.axes, MEASURES.items(), strict=True):
        assert axis.get_xlabel() == words
        expected = [
            (row.value, models.index(row.model), row.low, row.high)
            for row in rows
            if row.measure == measure
        ]
        np.testing.assert_allclose([drawn(of) for of in axis.containers], expected)
        lines = {line.get_linestyle(): line.get_xdata()[0] for line in axis.lines}
        styles = {"vit": "-", "cnn": "--", MUCH: ":"}
        ends = {styles[models[y]]: x for x, y, *_ in expected if models[y] in styles}
        assert {style: x for style, x in lines.items() if style in styles.values()} == ends


def test_intervals_over_seeds_end_where_their_quantity_does():
    """Three seeds that scatter have wide ones: a receptive field of less than nothing is none."""
    values = zip((0.9, 0.99, 0.7), (0.1, 0.2, 0.8), (0.2, 1.1, 2.0), (-3, -1, 0.5), strict=True)
    seen = [Seen("vit", 40, s, c, c, c, a, f, h) for s, (c, f, a, h) in enumerate(values)]
    rows = {row.measure: row for row in summarise_seen(seen)}
    assert (rows["field"].low, rows["field"].high) == (0, 1)
    assert rows["cka_with_cnn"].low == pytest.approx(0.863 - 4.303 * 0.1484 / 3**0.5, abs=0.001)
    assert rows["cka_with_cnn"].high == 1
    assert rows["attention_distance"].low == 0
    assert rows["attention_distance"].high > 2
    assert rows["high_frequency"].low < -5  # a logarithm has no ends
    assert "0.37 (0.00 to 1.00)" in as_markdown(list(rows.values()), 50)
