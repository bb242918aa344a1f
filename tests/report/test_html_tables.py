"""How the page lays out metrics."""

from zoo.report.filters import format_number
from zoo.report.html import Table, pivot_metrics


def pivot(*rows, compared) -> Table:
    """Lay out rows of (label, network, network_b, value)."""
    keys = ("label", "network", "network_b", "value")
    return pivot_metrics([dict(zip(keys, row, strict=True)) for row in rows], compared)


def alone(value: float) -> tuple:
    """A cell without an interval."""
    return value, None, None


def test_metrics_are_laid_out_by_network_whatever_these_are_called():
    table = pivot(
        ("chance", "", "", 5.0),
        ("mean CKA", "a/b", "", 2.0),
        ("mean CKA", "a", "a/b", 3.0),
        ("mean CKA", "a__a/b", "", 6.0),
        ("mean CKA", "a", "", 1.0),
        ("best match", "a", "a/b", 4.0),
        ("best match", "a/b", "a", 4.5),
        ("best match", "a", "a untrained", 7.0),
        compared=["a", "a/b", "a__a/b"],
    )
    pairs = ("a × a/b", "a × a untrained", "a/b × a")
    assert table.columns == ("a", "a/b", "a__a/b", *pairs, "all")
    assert dict(table.rows) == {
        "chance": ((),) * 6 + (alone(5.0),),
        "mean CKA": (*map(alone, (1.0, 2.0, 6.0, 3.0)), (), (), ()),
        "best match": ((), (), (), *map(alone, (4.0, 7.0, 4.5)), ()),
    }


def test_counts_are_whole_numbers_and_other_numbers_keep_their_decimals():
    table = pivot(("local heads", "v", "", 3), ("even attention", "v", "", 8.0), compared=["v"])
    assert [format_number(value) for _, ((value, *_),) in table.rows] == ["3", "8.000"]
