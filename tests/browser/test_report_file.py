"""The report opened from a file: alone, offline, in light and dark, on paper, for everyone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import zoo
from tests.browser.conftest import ANALYSES, MODELS
from zoo.analyses.engine import compare_models
from zoo.comparison import Comparison
from zoo.config import Settings


@pytest.fixture(scope="module")
def report_file(chromium, make_model, digit_images, tmp_path_factory) -> Path:
    """The report alone, without the figures and results beside it."""
    images, labels = digit_images
    models = [make_model(name.removesuffix("-small"), name) for name in MODELS]
    for block in models[0].module.blocks:
        block.attn.qkv.weight.data *= 20  # attention that is far from even
    settings = Settings(batch_size=20, references=False)
    only = ANALYSES.split(",")
    compared = zoo.compare(models, images[:40], labels[:40], only=only, settings=settings)
    folder = tmp_path_factory.mktemp("compared")
    compared.save(folder / "whole")
    return (folder / "whole" / "report.html").rename(folder / "alone.html")


@pytest.fixture
def watched(page):
    """What the page asks for, and what it complains of."""
    seen: dict[str, list[str]] = {"requests": [], "complaints": []}
    page.on("request", lambda request: seen["requests"].append(request.url))
    page.on(
        "console", lambda m: m.type in ("error", "warning") and seen["complaints"].append(m.text)
    )
    page.on("pageerror", lambda error: seen["complaints"].append(str(error)))
    return seen


def walk(page) -> None:
    """Unfold the page and show every part of it once, as a thorough reader would."""
    page.evaluate("document.querySelector('.unfold').click()")
    page.evaluate(
        "async () => { for (const part of document.querySelectorAll('section, .viewer')) {"
        " part.scrollIntoView(); await new Promise(requestAnimationFrame); } scrollTo(0, 0); }"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_needs_nothing_but_itself(page, watched, report_file, scheme, picture):
    page.emulate_media(color_scheme=scheme)
    page.goto(report_file.as_uri())
    walk(page)
    outside = [url for url in watched["requests"] if not url.startswith(("file:", "data:"))]
    assert watched["requests"][0] == report_file.as_uri()
    assert outside == []
    assert watched["complaints"] == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.strip("rgb()").split(",")) / 3
    assert brightness > 200 if scheme == "light" else brightness < 60
    picture(f"report-{scheme}", full_page=True)


def test_every_viewer_is_drawn(page, watched, report_file):
    page.goto(report_file.as_uri())
    walk(page)
    viewers = page.locator(".viewer")
    assert viewers.count() >= 4
    assert page.locator(".viewer:empty").count() == 0
    blank = page.evaluate(
        "[...document.querySelectorAll('.viewer canvas')].filter(c => !c.width || !c.height ||"
        " !c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)).length"
    )
    assert blank == 0


def test_on_paper_the_figures_stand_in_for_the_viewers(page, report_file, picture, screenshots):
    page.goto(report_file.as_uri())
    page.emulate_media(media="print", color_scheme="light")
    assert not page.locator(".viewer").first.is_visible()
    assert not page.locator("nav").is_visible()
    folded = page.locator("details.fold figure img").first
    assert not folded.is_visible()  # paper shows what its reader unfolded
    page.evaluate("document.querySelector('.unfold').click()")
    images = page.locator("figure img")
    assert images.count() >= 5
    assert all(images.nth(i).is_visible() for i in range(images.count()))
    picture("report-print", full_page=True)
    for claim in page.locator(".idle p").all():
        assert claim.is_visible()
    paper = page.pdf(path=screenshots / "report.pdf", format="A4", prefer_css_page_size=True)
    assert paper.startswith(b"%PDF")


def test_a_narrow_screen_scrolls_nothing_but_figures_and_tables(page, report_file, picture):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(report_file.as_uri())
    walk(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture("report-narrow", full_page=True)
    answer = page.locator(".compact")
    assert answer.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert "95 % interval" in answer.locator("td[data-label]").first.evaluate(
        "e => getComputedStyle(e, '::before').content"
    )
    for scrolling in page.locator(".card").all():
        assert scrolling.evaluate("e => e.scrollWidth <= e.clientWidth")
    card = page.locator(".question .card").first
    card.locator("xpath=../button").click()
    assert card.evaluate("e => e.scrollWidth > e.clientWidth && e.tabIndex === 0")


# Cells whose text runs out of them, and words of a header that are cut in two.
CUT = """() => {
  const seen = [...document.querySelectorAll("td, th")].filter((cell) => cell.offsetParent);
  const cut = seen.filter((cell) => cell.scrollWidth > cell.clientWidth + 1);
  for (const cell of seen.filter((cell) => cell.closest("thead"))) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode())
      for (const word of text.data.matchAll(/\\S+/g)) {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        if (range.getClientRects().length > 1) cut.push(cell);
      }
  }
  return [seen.length, cut.map((cell) => cell.textContent.trim())];
}"""


@pytest.mark.parametrize("width", [390, 1200])
def test_text_stays_in_its_cell_and_headers_keep_their_words(page, report_file, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(report_file.as_uri())
    walk(page)
    cells, cut = page.evaluate(CUT)
    assert cells > 50
    assert cut == []


SCROLLING = "<div class=scroll><table><tr>" + "<td>digits-medium" * 6 + "</table></div>"
COUNTED = "<td class=number><span class=interval>(16 of 16 at both ends)</span>"
VERDICT = "<td><span class='verdict no'>✗ not supported</span>"
MOVED = f"<table class=moved><thead><tr>{'<th>' * 5}<tbody><tr><th>{COUNTED * 3}{VERDICT}</table>"


@pytest.mark.parametrize(("width", "table", "lines"), [(390, SCROLLING, 2), (1200, MOVED, 3)])
def test_a_cell_as_long_as_can_be_breaks_between_words(page, width, table, lines):
    sheet = (Path(zoo.__file__).parent / "report" / "report.css").read_text()
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(f"<style>{sheet}</style><nav></nav><main>{table}</main>")
    assert page.evaluate(CUT)[1] == []
    broken = page.locator("td").evaluate_all(
        "all => all.map((e) => { const range = document.createRange();"
        " range.selectNodeContents(e.firstChild ?? e); return range.getClientRects().length })"
    )
    assert 0 < max(broken) <= lines


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_barrier(page, report_file, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    page.goto(report_file.as_uri())
    walk(page)
    found = Axe().run(page).response["violations"]
    serious = {
        rule["id"]: [node["html"][:200] for node in rule["nodes"][:3]]
        for rule in found
        if rule["impact"] in ("serious", "critical")
    }
    assert serious == {}


def test_a_viewer_says_what_it_steps_through_and_keeps_the_order_of_heads(page, report_file):
    page.goto(report_file.as_uri())
    walk(page)
    maps = page.locator(".viewer[data-viewer=images-attention-maps]")
    assert maps.locator(".slider").first.inner_text() == "Depth, from input to output"
    assert "layer 1: blocks.0.attn" in maps.inner_text()
    assert "× an even share" in maps.inner_text()
    maps.get_by_label("heads of the last layer").check()
    assert maps.locator(".slider").first.inner_text() == "Head"
    entropy = page.locator(".viewer[data-viewer=heat-attention-maps]")
    assert entropy.get_by_label("entropy / log(tokens)").is_checked()
    low, high = (float(end) for end in entropy.locator(".ends").inner_text().split())
    assert 0 <= low < high <= 1
    entropy.get_by_label("Sort each row’s heads").check()
    entropy.get_by_label("entropy in nats").check()
    assert entropy.get_by_label("Sort each row’s heads").is_checked()


# Of the pixels of a map's picture, how many are neither its input's nor of an outline.
CHANGED = """([input, seen]) => {
  const [before, after] = [input, seen].map(
    (canvas) => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data);
  const is = (i, rgb) => [0, 1, 2].every((k) => after[4 * i + k] === rgb[k]);
  const lines = [[213, 94, 0], [255, 255, 255]];
  return [...Array(before.length / 4).keys()].filter(
    (i) => ![before.slice(4 * i, 4 * i + 3), ...lines].some((rgb) => is(i, rgb))).length;
}"""


def test_an_image_fades_where_attention_is_low_and_channels_have_colours(page, report_file):
    page.goto(report_file.as_uri())
    walk(page)
    maps = page.locator(".viewer[data-viewer=images-attention-maps]")
    assert "visible where its map is high" in maps.inner_text()
    changed = {}
    for percent in ("0", "100"):
        maps.get_by_label("Fade the rest").fill(percent)
        changed[percent] = maps.locator(".panels canvas").evaluate_all(CHANGED)
    assert changed["0"] == 0
    assert changed["100"] > 1000
    channels = page.locator(".viewer[data-viewer=images-feature-maps]")
    assert "Dark is low and bright is high; each map has its own range." in channels.inner_text()
    assert not channels.get_by_label("Fade the rest").is_visible()
    assert (
        channels.locator(".panels .bar").count() == channels.locator(".panels canvas").count() - 1
    )


def test_the_keyboard_reaches_the_heat_map_and_moves_in_it(page, report_file):
    page.goto(report_file.as_uri())
    viewer = page.locator(".viewer[data-viewer=heat-cka]")
    canvas, output = viewer.locator("canvas").first, viewer.locator(".readout output")
    canvas.focus()
    seen = {output.inner_text()}
    for key in ("ArrowUp", "ArrowRight", "End", "Home"):
        page.keyboard.press(key)
        seen.add(output.inner_text())
    assert len(seen) >= 4


def test_a_link_opens_the_fold_that_it_leads_into(page, report_file):
    page.goto(report_file.as_uri())
    evidence = page.locator(".judged a.evidence").first
    row = page.locator(evidence.get_attribute("href"))
    assert not row.is_visible()
    evidence.click()
    assert row.is_visible()
    page.goto(f"{report_file.as_uri()}#word-CKA")
    page.reload()
    assert page.locator("#word-CKA").is_visible()


def test_a_word_is_explained_under_the_pointer_and_by_the_keyboard(page, report_file):
    page.goto(report_file.as_uri())
    word = page.locator("a.term").first
    shown = "e => getComputedStyle(e, '::after').content"
    assert word.evaluate(shown) == "none"
    word.hover()
    assert word.get_attribute("data-tip") in word.evaluate(shown)
    page.mouse.move(0, 0)
    page.keyboard.press("Tab")
    word.focus()
    assert word.get_attribute("data-tip") in word.evaluate(shown)


def test_sorting_can_be_undone(page, report_file):
    page.goto(report_file.as_uri())
    walk(page)
    table = page.locator("table.claims")
    rows = table.locator("tbody tr th .statement")
    before, button = rows.all_inner_texts(), table.locator("th button").first
    seen = []
    for _ in range(3):
        button.click()
        seen.append(rows.all_inner_texts())
    assert seen[0] == seen[1][::-1] != seen[1]
    assert seen[2] == before


def test_it_opens_within_a_second_and_weighs_little(page, report_file):
    assert report_file.stat().st_size < 3_000_000
    client = page.context.new_cdp_session(page)
    # The page's own time on a processor, however busy the machine is.
    client.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(report_file.as_uri())
    spent = {m["name"]: m["value"] for m in client.send("Performance.getMetrics")["metrics"]}
    assert 0 < spent["TaskDuration"] < 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_section_has_its_picture_and_overlaps_nothing(
    page, report_file, width, scheme, screenshots
):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto(report_file.as_uri())
    for section in page.locator("main > section, footer").all():
        name = section.get_attribute("aria-labelledby")
        section.screenshot(path=screenshots / f"{name}-{width}-{scheme}.png")
    walk(page)
    outside = page.evaluate(
        "[...document.querySelectorAll('.verdict')].filter(e =>"
        " e.getBoundingClientRect().right > e.parentElement.getBoundingClientRect().right + 1"
        ").length"
    )
    assert outside == 0


def test_in_the_table_of_tests_nothing_lies_over_anything(page, make_model, digit_images, tmp_path):
    images, labels = digit_images
    models = [make_model("vit", "v"), make_model("resnet18", "c")]
    others = [(0, make_model("vit", "v", seed=1)), (1, make_model("resnet18", "c", seed=1))]
    results = compare_models(models, images, labels, siblings=others, only=["accuracy", "cka"])
    known = zoo.compare(models, images, labels, only=["accuracy"]).results.provenance
    Comparison(replace(results, provenance=known)).save(tmp_path / "seeds")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto((tmp_path / "seeds" / "report.html").as_uri())
    page.evaluate("document.querySelector('.unfold').click()")
    table = page.locator("table.claims")
    assert "interval over seeds" in table.inner_text()
    over = table.locator("th, td").evaluate_all(
        "cells => cells.filter(c => c.scrollWidth > c.clientWidth + 1).map(c => c.innerText)"
    )
    assert over == []
