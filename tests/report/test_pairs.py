"""More than two models on one page: all at a glance, then each pair."""

import re
import shutil

from zoo.report.html import render


def test_of_three_models_all_are_shown_at_a_glance_and_then_each_pair(comparison, change_report):
    figures = comparison / "figures"
    pairs = ["vit-small__resnet18-small", "vit-small__a-third", "resnet18-small__a-third"]
    for name in ("models", *pairs[1:]):
        for kind in ("png", "svg"):
            shutil.copy(figures / f"cka-{pairs[0]}.{kind}", figures / f"cka-{name}.{kind}")

    def add_a_third(report: dict) -> None:
        report["models"].append(report["models"][0] | {"name": "a third"})
        entry = next(a for a in report["analyses"] if a["name"] == "cka")
        entry["figures"] = ["cka-models", *(f"cka-{pair}" for pair in pairs)]

    page = render(change_report(add_a_third))
    headings = re.findall(r'<h3 id="(pair-[^"]+)">([^<]+)</h3>', page)
    assert headings == [
        (f"pair-cka-{pair}", pair.replace("__", " × ").replace("-third", " third"))
        for pair in pairs
    ]
    for place, _ in headings:
        assert f'href="#{place}"' in page
    order = [page.index(f'id="{name}"') for name in
             ("figure-cka-models", "heat-cka", f"figure-cka-{pairs[0]}")]  # fmt: skip
    assert order == sorted(order)
    assert "The same as a figure, for print" not in page  # nothing that matters is folded


def test_two_models_have_no_list_of_pairs(saved_comparison):
    assert "Pair by pair" not in render(saved_comparison)
