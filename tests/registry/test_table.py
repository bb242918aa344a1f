"""The table of accuracies: which versions count, means over seeds, and how it is printed."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from zoo.registry.listing import VersionRow
from zoo.registry.table import accuracy_table, written

FIRST = VersionRow(
    "vit-small", 1, (), "vit", "digits", "small", 0, 10, 0.5, None, "d",
    datetime(2026, 1, 1, tzinfo=UTC), "r", {},
)  # fmt: skip


def version(number: int, **known) -> VersionRow:
    return replace(FIRST, version=number, created=FIRST.created + timedelta(number), **known)


ROWS = [
    version(1, test_accuracy=0.2),
    version(2, test_accuracy=0.5),  # the same seed again: it takes the first one's place
    version(3, seed=1, test_accuracy=0.7),
    version(4, seed=2, test_accuracy=None),
    version(5, seed=3, test_accuracy=0.9, experiment="tried"),
    version(6, name="vit-full", subset="full", test_accuracy=0.8),
    version(7, name="a_net", subset="full", test_accuracy=0.25),
]


def test_seeds_are_averaged_and_each_counts_once():
    found = accuracy_table(ROWS).set_index(["model", "dataset"])
    small = found.loc[("vit", "digits small")]
    assert small["accuracy"] == pytest.approx(0.6)
    assert small["deviation"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert small["seeds"] == 2
    assert math.isnan(found.loc[("vit", "digits full")]["deviation"])
    assert set(found.index) == {
        ("vit", "digits small"), ("vit", "digits full"), ("a_net", "digits full"),
    }  # fmt: skip


def test_it_is_written_as_models_by_datasets_in_the_order_of_their_first_versions():
    wide = written(accuracy_table(ROWS))
    assert list(wide.columns) == ["digits small", "digits full"]
    assert wide.loc["vit"].tolist() == ["60.0 ± 14.1", "80.0"]
    assert wide.loc["a_net"].tolist() == ["", "25.0"]


def test_nothing_registered_is_an_empty_table():
    assert accuracy_table([]).empty


@pytest.fixture
def printed(monkeypatch):
    from click.testing import CliRunner

    from zoo.cli import cli

    monkeypatch.setattr("zoo.registry.store.open_store", lambda **_: None)
    monkeypatch.setattr("zoo.registry.listing.list_versions", lambda _: ROWS)
    return lambda *options: CliRunner().invoke(cli, ["table", *options]).output


def test_every_form_holds_the_same_numbers(printed):
    plain = printed().splitlines()
    assert plain[0].split() == ["model", "digits", "small", "digits", "full"]
    assert plain[2].split() == ["vit", "60.0", "±", "14.1", "80.0"]
    markdown = printed("--md").splitlines()
    assert markdown[1] == "| --- | ---: | ---: |"
    assert markdown[3] == "| vit | 60.0 ± 14.1 | 80.0 |"
    latex = printed("--latex")
    assert "a\\_net &  & 25.0 \\\\" in latex
    assert "vit & 60.0 $\\pm$ 14.1 & 80.0 \\\\" in latex
    lines = printed("--csv").splitlines()
    assert lines[0] == "model,dataset,accuracy,deviation,seeds"
    assert "vit,digits full,0.8,,1" in lines


def test_versions_can_be_chosen(printed):
    assert "60.0" not in printed("--filter", "subset=full")
    assert '"seeds": 1' in printed("--json", "--filter", "subset=full")
