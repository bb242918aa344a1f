"""More than two models on one page: all at a glance, then each pair."""

import re
import shutil
from dataclasses import replace

from tests.report.page import render_folder

NAMES = ("vit-small", "resnet18-small", "a third")
PAIRS = [(NAMES[0], NAMES[1]), (NAMES[0], NAMES[2]), (NAMES[1], NAMES[2])]


def test_of_three_models_all_are_shown_at_a_glance_and_then_each_pair(comparison, change_report):
    figures = comparison / "figures"
    files = ["cka-" + "__".join(pair).replace(" ", "-") for pair in PAIRS]
    for name in ("cka-models", *files[1:]):
        for kind in ("png", "svg"):
            shutil.copy(figures / f"{files[0]}.{kind}", figures / f"{name}.{kind}")

    def show_a_third(report: dict) -> None:
        report["models"].append(report["models"][0] | {"name": NAMES[2]})
        entry = next(a for a in report["analyses"] if a["name"] == "cka")
        entry["figures"] = [
            {"file": "cka-models", "kind": "cka-models", "of": [], "caption": "All."}
        ] + [
            {"file": file, "kind": "differences-groups-{}", "of": list(pair), "caption": "Two."}
            for file, pair in zip(files, PAIRS, strict=True)
        ]

    def add_a_third(results):
        third = replace(results.networks[0], name=NAMES[2], model=NAMES[2])
        return replace(results, networks=(*results.networks, third))

    page = render_folder(change_report(show_a_third), add_a_third)
    headings = re.findall(r'<h4 id="(pair-[^"]+)">([^<]+)</h4>', page)
    assert headings == [
        (f"pair-{file}", " × ".join(pair)) for file, pair in zip(files, PAIRS, strict=True)
    ]
    for place, _ in headings:
        assert f'href="#{place}"' in page
    order = [page.index(f'id="{name}"') for name in
             ("heat-cka", "figure-cka-models", f"figure-{files[0]}")]  # fmt: skip
    assert order == sorted(order)


def test_two_models_have_no_list_of_pairs(text):
    assert "Pair by pair" not in text
