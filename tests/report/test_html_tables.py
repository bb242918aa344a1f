"""How the page lays out metrics."""

from zoo.report.filters import format_number
from zoo.report.html import pivot_metrics


def test_metrics_are_laid_out_by_model():
    metrics = {
        "cka/a/mean": 1.0,
        "cka/a/b/mean": 2.0,
        "cka/a__a/b/mean": 3.0,
        "cka/a__a/b/low/first_half": 4.0,
        "cka/chance": 5.0,
    }
    table = pivot_metrics(metrics, "cka", ["a", "a/b"])
    assert table.columns == ("a", "a/b", "a × a/b", "all")
    assert dict(table.rows) == {
        "mean CKA over all pairs of layers": (1.0, 2.0, 3.0, None),
        "low · first half": (None, None, 4.0, None),
        "chance": (None, None, None, 5.0),
    }


def test_counts_are_whole_numbers_and_other_numbers_keep_their_decimals():
    metrics = {"attention-distance/v/local_heads": 3, "attention-distance/v/uniform": 8.0}
    rows = dict(pivot_metrics(metrics, "attention-distance", ["v"]).rows)
    assert [format_number(value) for (value,) in rows.values()] == ["3", "8.000"]
