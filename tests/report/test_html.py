import base64
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from tests.report.page import Page, render_folder
from zoo.comparison import open_results
from zoo.errors import UserError
from zoo.report import html

PNG = "figures/cka-vit-small__resnet18-small.png"
Change = Callable[[Callable[[dict], None]], Path]


def test_every_tag_is_closed_and_every_id_is_its_own(page: Page):
    assert page.open == []
    ids = Counter(attrs["id"] for _, attrs in page.tags if "id" in attrs)
    assert [name for name, count in ids.items() if count > 1] == []


def test_names_and_links_inside_the_page_lead_somewhere(page: Page):
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    named = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    inner = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    viewer_data = {a["data-viewer"] for _, a in page.tags if "data-viewer" in a}
    assert inner > {"main", "layers", "provenance", "word-CKA"}
    assert named | inner | viewer_data <= ids


def test_headings_go_down_one_level_at_a_time(page: Page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_the_head_says_which_models_are_compared(page: Page):
    assert page.text("title").startswith("vit-small vs resnet18-small")
    shown = page.text()
    for fact in ("vision transformer", "21,642", "11,173,962", "81.2 %", "digits small, n = 100",
                 "trained on 100 images of digits (subset small)",
                 "16 × 16 pixels (bicubic); mean 0.5, standard deviation 0.5",
                 "CKA is linear, with unbiased HSIC averaged over minibatches of 32 images",
                 "with unbiased HSIC averaged over minibatches (Nguyen et al. 2021)"):  # fmt: skip
        assert fact in shown
    assert "20 November 2026, 14:03 UTC" in shown
    assert "0123456789ab" in page.text("code")


def test_what_they_do_differently_leads_to_its_analysis(change_report: Change):
    def tell(report: dict) -> None:
        told = [("vit-small sees <i>farther", "cka"), ("No difference found", "")]
        report["contrasts"] = [{"text": text, "analysis": of} for text, of in told]

    text = render_folder(change_report(tell))
    listed = text[text.index('id="contrasts"') :].partition("</ul>")[0]
    assert "sees &lt;i&gt;farther" in listed
    assert listed.count("<li>") == 2
    assert listed.count('<a href="#cka">') == 1
    assert '<details class="fold analysis" id="cka">' in text


def test_every_figure_is_embedded_with_a_text_that_says_what_it_shows(
    page: Page, saved_comparison: Path
):
    report = json.loads((saved_comparison / "report.json").read_text())
    images = {image["alt"]: image for image in page.all("img")}
    shown = [(a["title"], figure) for a in report["analyses"] for figure in a["figures"]]
    for title, figure in shown:
        image = images[f"{title}: {figure['caption']}"]
        kind, content = image["src"].split(";base64,")
        saved = saved_comparison / "figures" / figure["file"]
        if kind == "data:image/webp":  # the same pixels
            found = Image.open(io.BytesIO(base64.b64decode(content)))
            assert found.tobytes() == Image.open(f"{saved}.png").convert("RGB").tobytes()
        else:
            assert kind == "data:image/svg+xml"
            assert base64.b64decode(content) == Path(f"{saved}.svg").read_bytes()
        assert int(image["width"]) > 200
    assert len(shown) == len(page.all("img"))
    alts = [image["alt"] for image in page.all("img")]
    assert len(set(alts)) == len(alts)
    assert "Attention maps: What each head of vit-small's last layer attends to." in alts
    assert "What each head of vit-small's last layer attends to." in page.text("figcaption")


def test_a_model_named_as_a_word_is_marked_in_what_is_said_of_it_alone(change_report):
    """Guides are the same for every comparison: `axes` in them is no model."""

    def rename(report):
        report["summary"] = "axes sees farther."
        report["models"][0]["name"] = "axes"

    text = render_folder(change_report(rename))
    assert re.search('<p class="lead"><span class="name whole m0">axes</span> sees', text)
    guides = re.findall(r'<p class="reading">.*?</p>', text)
    assert any(" axes " in guide for guide in guides)
    assert not any('class="name' in guide for guide in guides)


def test_a_large_svg_gives_way_to_a_smaller_picture(comparison: Path):
    svg = comparison / "figures/cka-vit-small__resnet18-small.svg"
    svg.write_bytes(svg.read_bytes() + b" " * html.SVG_LIMIT)
    kinds = {a["alt"]: a["src"].split(";")[0] for a in Page(render_folder(comparison)).all("img")}
    assert {kind for alt, kind in kinds.items() if "(CKA)" in alt} == {"data:image/webp"}
    assert "data:image/svg+xml" in kinds.values()


def test_a_figure_of_photographs_is_embedded_small(tmp_path: Path):
    photo = Image.fromarray(load_sample_image("flower.jpg")).resize((1280, 854))
    photo.save(tmp_path / "photo.png", dpi=(150, 150))
    (tmp_path / "photo.svg").write_bytes(b" " * 10_000_000)
    kind, content = html.embed_figure(tmp_path, "photo")["src"].split(";base64,")
    found = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (kind, found.size) == ("data:image/webp", (1280, 854))
    assert len(content) < (tmp_path / "photo.png").stat().st_size / 5
    difference = np.asarray(found.convert("RGB"), float) - np.asarray(photo, float)
    assert np.sqrt((difference**2).mean()) < 4  # of 255


def test_a_card_says_how_its_model_was_trained(page: Page):
    shown = " ".join(page.text().split())
    assert "20 epochs (40 steps), batches of 50, adam, learning rate 0.001" in shown
    assert "Training accuracy 93.8 %" in shown


def test_tables_can_be_sorted_by_their_numbers(page: Page):
    values = [a["data-value"] for a in page.all("td") if "data-value" in a]
    assert {"0.1234", "-0.03", "64", ""} <= set(values)
    assert all(value == "" or np.isfinite(float(value)) for value in values)
    _, *others = page.all("table")  # the answer's own is short, and in the order of its sentences
    assert all("sortable" in a["class"] for a in others)
    assert {a["scope"] for a in page.all("th")} == {"col", "row"}


def test_what_did_not_apply_and_where_it_came_from_is_said(page: Page):
    shown = page.text()
    assert "needs the images' labels" in shown
    assert "zoo compare vit-small resnet18-small" in page.text("code")
    assert "fedcba9876543210" * 4 in page.text("code")
    for setting in ("batch size", "pool", "torch", "timm"):
        assert setting in page.text("dt")


def test_a_page_of_two_small_models_is_small(text: str):
    assert len(text.encode()) < 2_000_000


def test_the_same_comparison_gives_the_same_page_and_stays_untouched(
    saved_comparison: Path, text: str
):
    before = {p: p.stat().st_mtime_ns for p in saved_comparison.rglob("*")}
    assert render_folder(saved_comparison) == text
    assert {p: p.stat().st_mtime_ns for p in saved_comparison.rglob("*")} == before


def test_interactive_parts_stand_where_their_arrays_are(page: Page):
    viewers = [attrs["data-viewer"] for _, attrs in page.tags if "data-viewer" in attrs]
    maps = ["images-attention-maps", "heat-attention-maps", "images-feature-maps"]
    assert viewers == [*maps, "heat-cka"]
    assert set(viewers) == set(page.viewer_data())


def test_every_map_is_drawn_on_a_scale_that_its_analysis_names(page: Page, saved_comparison: Path):
    results = open_results(saved_comparison).results.results.values()
    datasets = [data for r in results for data in (r.data, *(part.data for part in r.parts))]
    named = {v.attrs.get("long_name") for data in datasets for v in data.data_vars.values()}
    drawn = {
        entry["measure"]
        for data in page.viewer_data().values()
        for entry in data.get("maps", data.get("sets"))
    }
    assert "CKA" in drawn
    assert drawn <= named


def test_a_panel_shows_each_measure_of_the_same_networks_once(page: Page):
    for data in page.viewer_data().values():
        shown = [(entry["measure"], entry["label"]) for entry in data.get("maps", data.get("sets"))]
        assert len(shown) == len(set(shown)), shown


def test_figures_whose_numbers_a_panel_shows_are_for_paper(page: Page):
    paper = {a["id"] for a in page.all("figure") if a.get("class") == "for-print"}
    assert "figure-cka-vit-small__resnet18-small" in paper
    assert "figure-attention-maps-entropy" not in paper


def test_a_comparison_without_analyses_or_claims_still_has_a_page(change_report: Change):
    def empty(report: dict) -> None:
        report.update(analyses=[], metrics=[], claims=[], not_applicable={}, summary="", command="")
        report.update(numbers=[], cautions=["v <b> 40 steps"])
        report.update(models=report["models"][:1], created="yesterday")

    page = Page(render_folder(change_report(empty)))
    assert page.open == []
    assert page.text("title").startswith("vit-small ·")
    assert page.text("time") == "yesterday"
    assert page.all("table") == page.all("img") == []
    assert "claims" not in {attrs.get("id") for _, attrs in page.tags}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f / "figures"), "no file .*svg; run the comparison again"),
        (lambda f: (f / "results.nc").unlink(), "no file .*results.nc: zoo compare writes one"),
        (lambda f: (f / "results.nc").write_bytes(b"no"), "results.nc holds no comparison .*again"),
        (lambda f: (f / PNG).write_bytes(b""), "small.png is damaged; run the comparison again"),
    ],
)
def test_a_damaged_comparison_is_named_in_one_line(comparison: Path, damage, message: str):
    damage(comparison)
    with pytest.raises(UserError, match=message) as caught:
        render_folder(comparison)
    assert "\n" not in str(caught.value)


def test_each_analysis_names_the_settings_that_it_uses_and_no_others(text: str):
    sources = dict(
        re.findall(
            r'class="fold analysis" id="([\w-]+)">.*?(<p class="source">.*?</p>)',
            text,
            re.S,
        )
    )
    assert (
        "64 images, layers blocks, pool flatten, batch size 32, references no, seed 0;"
        in sources["cka"]
    )
    assert "64 images, show apart, shown images 2;" in sources["feature-maps"]


def test_long_tables_alone_scroll_and_say_so(change_report: Change):
    def lengthen(report: dict) -> None:
        row = report["metrics"][0]
        assert row["analysis"] == "cka"
        report["metrics"] = [m for m in report["metrics"] if m["analysis"] != "cka"] + [
            row | {"label": f"m{i}", "value": i / 30} for i in range(30)
        ]

    page = Page(render_folder(change_report(lengthen)))
    scrolled = [a["class"] for a in page.all("div") if "scroll" in a.get("class", "")]
    assert scrolled == ["scroll", "scroll long"]  # feature maps have no numbers
    assert "30 rows: scroll for the rest" in page.text()
