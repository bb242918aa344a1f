"""A page loads nothing, runs its own script alone, and shows whatever it is given as text."""

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from tests.report.page import Page, render_folder
from zoo.report import html
from zoo.report.questions import PAPERS

HERE = Path(html.__file__).parent
# Of the papers whose claims were made up for the page.
ADDRESSES = {PAPERS["Raghu et al. 2021"], PAPERS["Zhu et al. 2023"]}
Change = Callable[[Callable[[dict], None]], Path]


def test_only_papers_are_linked_outward(page: Page):
    # No server: a file knows none's address, and MLflow's frame lets no link be followed.
    outward = [a for a in page.all("a") if not a["href"].startswith("#")]
    assert {a["href"] for a in outward} == ADDRESSES
    assert all("noopener" in a["rel"] for a in outward)


def test_the_page_loads_nothing(text: str, page: Page):
    for tag, attrs in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        if "src" in attrs:
            assert attrs["src"].startswith("data:image/")
        assert not any(name.startswith("on") for name in attrs)
    code = (HERE / "report.js").read_text() + (HERE / "report.css").read_text()
    for word in ("fetch(", "XMLHttpRequest", "localStorage", "sessionStorage", "@import", "url("):
        assert word not in code
    outward = re.findall(r"https?://[^\s\"<]+", re.sub(r"base64,[\w+/=]+", "", text))
    assert set(outward) == ADDRESSES


def test_the_policy_lets_this_script_run_and_no_other(page: Page):
    (policy,) = (a["content"] for a in page.all("meta") if "http-equiv" in a)
    script = [text for at, text in page.texts if at == "script"][-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_names_that_look_like_markup_stay_text(
    write_comparison: Callable[..., Path], tmp_path: Path
):
    names = ("<script>alert(1)</script>", "res\"net' & </script><!--<b>")
    evil = Page(render_folder(write_comparison(tmp_path, names, ("cka",))))
    assert [a.get("id") for a in evil.all("script")] == ["heat-cka", None]
    assert evil.all("b") == evil.open == []
    assert "<script>alert(1)</script>" in evil.text("h3")
    heat = evil.viewer_data()["heat-cka"]["maps"]
    assert {m["rows"]["model"] for m in heat} == set(names)


def test_viewer_data_cannot_end_their_script(text: str):
    for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S):
        assert not re.search("[<>&]", data)
