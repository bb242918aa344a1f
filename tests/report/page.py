"""A page as its tags, scripts and texts, to be asked about."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from zoo.comparison import open_results
from zoo.report.html import render
from zoo.study.results import ComparisonResults

VOID = {"meta", "img", "br", "input", "link"}


def render_folder(
    folder: Path, change: Callable[[ComparisonResults], ComparisonResults] = lambda r: r
) -> str:
    """Return the page of a saved comparison, of what its files hold, or of changed results."""
    report = json.loads((folder / "report.json").read_text())
    return render(report, change(open_results(folder).results), folder / "figures")


class Page(HTMLParser):
    """Tags with attributes, the text of each script, and headings, of one page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self, tag: str = "") -> str:
        hidden = {"script", "style"} - {tag}
        return " ".join(t for at, t in self.texts if at == tag or (not tag and at not in hidden))

    def viewer_data(self) -> dict[str, dict]:
        scripts = iter(text for at, text in self.texts if at == "script")
        found = {}
        for attrs in self.all("script"):
            text = next(scripts)
            if attrs.get("type") == "application/json":
                found[attrs["id"]] = json.loads(text)
        return found
