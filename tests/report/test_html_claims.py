"""How the page shows claims: what supports them, what does not, and what would be needed."""

import json
import re
from pathlib import Path

from tests.report.page import Page, render_folder
from zoo.report.filters import true_minus


def test_claims_carry_a_mark_and_words_besides_colour(
    text: str, page: Page, saved_comparison: Path
):
    shown = page.text()
    for claim in json.loads((saved_comparison / "report.json").read_text())["claims"]:
        assert claim["statement"] in shown
        assert true_minus(claim["detail"]) in shown
    for mark, verdict in (("✓", "supported"), ("✗", "not supported")):
        assert f'<span aria-hidden="true">{mark}</span> {verdict}</span>' in text
    assert "1 supported · 1 not supported · 1 not applicable" in shown
    assert "Raghu et al. 2021, Figs H.1, H.2" in shown
    assert "Zhu et al. 2023, table of accuracies" in shown


def test_claims_stand_with_their_intervals_beside_what_untrained_networks_give(page: Page):
    shown = " ".join(page.text().split())
    assert "0.123 (6 to 9 of 64)" in shown
    assert "0.062 (0.050 to 0.075) change: 0.061 (0.040 to 0.080)" in shown
    assert "0.020 <0.001" in shown  # p corrected, and not
    assert "training moved it this way; 0.62 against 0.50" in shown


def test_claims_that_were_tested_come_first(change_report):
    def mix(report: dict) -> None:
        report["claims"] = report["claims"][::-1]

    text = render_folder(change_report(mix))
    assert re.findall(r'<tr id="claim-([A-Z]-[a-z]+)', text) == ["Z-accuracy", "R-uniform"]
    idle = text[text.index('<details class="fold idle">') :]
    assert idle.index("1 not applicable here") < idle.index("needs an MLP-Mixer")
    assert idle.index("needs an MLP-Mixer") < idle.index("Mixer is more like ViT than like ResNet")


def test_verdicts_are_sorted_with_the_supported_first(text: str):
    found = re.findall(r'data-label="Verdict" data-value="(\d)".*?</span> ([a-z ]+)</span>', text)
    assert sorted(set(found)) == [("0", "supported"), ("3", "not supported")]


def test_a_claim_stands_under_its_question_and_leads_to_its_evidence_and_paper(text: str):
    for question, claim, paper in (("layers", "R-uniform", 1), ("right", "Z-accuracy", 2)):
        section = re.search(rf'<section aria-labelledby="{question}".*?</section>', text, re.S)[0]
        judged = re.search(r'<ul class="judged">.*?</ul>', section, re.S)[0]
        assert re.findall(r'href="#(claim-[^"]+)"', judged) == [f"claim-{claim}-{paper}"]
        assert 'href="https://arxiv.org/abs/' in judged
