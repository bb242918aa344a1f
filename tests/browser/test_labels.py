"""The page's own choice of labels is that of the figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.report.names import LAYERS
from zoo.figures.labels import choose_labels

SCRIPT = Path(__file__).parent.parent.parent / "zoo" / "report" / "report.js"
PIXELS = 13  # from one label of the page to the next


@pytest.mark.parametrize("most", [2, 7, 20, 40, 300])
def test_page_and_figures_choose_the_same_labels(page, most):
    script = SCRIPT.read_text()
    function = re.search(r"^  function chooseLabels.*?^  }$", script, re.MULTILINE | re.DOTALL)[0]
    for names in LAYERS.values():
        found = page.evaluate(
            f"([names, room]) => {{ {function}; return chooseLabels(names, room); }}",
            [names, PIXELS * most],
        )
        positions, labels = choose_labels(names, most)
        assert [label["i"] for label in found] == positions
        assert [label["text"] for label in found] == labels
