"""MLflow's pages on what zoo keeps: the registry, runs side by side, the report in its frame."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import MODELS
from zoo.registry.ui import MODE


@pytest.fixture
def visit(page, server, project):
    """Open one of the pages that zoo prints a link to."""

    def visit(link: str):
        page.goto(link)
        return page

    return visit


def test_the_registry_lists_both_models_and_opens_their_versions(visit, project, picture):
    page = visit(project.links["models"])
    for model in MODELS:
        page.get_by_role("link", name=model, exact=True).first.wait_for()
    picture("mlflow-registry")
    for model, link in zip(MODELS, project.version_links, strict=True):
        page = visit(link)
        page.get_by_role("heading", name="Version 1").wait_for()
        # The card: the model's description, written by zoo.
        page.get_by_text("test images.").first.wait_for()
        picture(f"mlflow-version-{model}")


def test_training_runs_stand_side_by_side(visit, project, picture):
    page = visit(project.links["runs"])
    for model in MODELS:
        page.get_by_text(f"{model}-0").first.wait_for()
    for metric in ("validation/accuracy", "train/loss", "weights/test/accuracy"):
        page.get_by_text(metric, exact=True).first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    picture("mlflow-compare-runs")


def test_the_table_of_comparisons_tells_them_apart(visit, project, picture):
    page = visit(project.links["comparisons"])
    name = page.get_by_text(re.compile("^vit,resnet18-small [0-9a-f]{4}$")).first
    name.wait_for()
    assert name.evaluate("e => e.scrollWidth <= e.clientWidth")  # nothing is cut off
    picture("mlflow-comparisons")


def test_the_list_of_runs_shows_charts(visit, project, picture):
    page = visit(project.links["training runs"])
    for model in MODELS:
        page.get_by_text(f"{model}-0").first.wait_for()
    page.get_by_text("train/accuracy").first.wait_for()  # the curves come first
    picture("mlflow-training-runs")


def open_artifact(page, link: str, *path: str) -> None:
    """Open a file among the artifacts of a run."""
    page.goto(re.sub(r"\?", "/artifacts?", link, count=1))
    for name in path:
        page.get_by_text(name, exact=True).first.click()


def test_a_training_run_has_its_learning_curve(page, server, project, picture):
    page.goto(project.links["runs"])
    page.get_by_role("link", name=re.compile("^[0-9a-f]{32}$")).first.click()
    page.wait_for_url(re.compile("/runs/[0-9a-f]{32}"))
    page.get_by_text("test images.").first.wait_for()
    run = page.url.partition("?")[0]
    open_artifact(page, f"{run}?{MODE}", "figures", "learning-curve.png")
    page.locator("img[src*='learning-curve'], img[src^='blob:']").first.wait_for()
    picture("mlflow-learning-curve")


def test_the_comparison_opens_on_its_finding(visit, project, picture):
    page = visit(project.links["MLflow"])
    page.get_by_text(re.compile("accurate than|No detectable difference")).first.wait_for()
    picture("mlflow-comparison")


@pytest.fixture
def report(page, server, project):
    """The report in MLflow's frame."""
    open_artifact(page, project.links["MLflow"], "report.html")
    frame = page.frame_locator("iframe").first
    frame.get_by_role("heading", name="The answer").wait_for()
    frame.locator("nav summary").first.click()  # the frame is too narrow for an open list
    frame.get_by_role("button", name="Unfold everything").click()
    return frame


def test_the_report_in_its_frame_shows_a_cell_under_the_pointer(report, picture):
    viewer = report.locator(".viewer[data-viewer=heat-cka]")
    canvas, output = viewer.locator("canvas").first, viewer.locator(".readout output")
    canvas.scroll_into_view_if_needed()
    before = output.inner_text()
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 0.3, "y": box["height"] * 0.3})
    first = output.inner_text()
    canvas.hover(position={"x": box["width"] * 0.4, "y": box["height"] * 0.6})
    second = output.inner_text()
    assert len({before, first, second}) == 3
    assert re.match(r"[−\d.]+", second)
    assert "CKA" in second
    picture("mlflow-report-cka")


def test_the_report_in_its_frame_steps_through_the_layers(report, picture):
    viewer = report.locator(".viewer[data-viewer=images-attention-maps]")
    slider, map_ = viewer.locator(".slider input").first, viewer.locator(".panels canvas").nth(1)
    slider.scroll_into_view_if_needed()
    slider.focus()
    slider.press("Home")
    slider.press("ArrowRight")
    first = map_.evaluate("c => c.toDataURL()")
    slider.press("Home")
    assert map_.evaluate("c => c.toDataURL()") != first
    picture("mlflow-report-attention")
    thumbs = viewer.locator(".thumbs button[aria-pressed]")
    before = map_.evaluate("c => c.toDataURL()")
    thumbs.nth(1).click()
    assert thumbs.nth(1).get_attribute("aria-pressed") == "true"
    assert map_.evaluate("c => c.toDataURL()") != before


def test_the_report_in_its_frame_sorts_the_claims(report, picture):
    table = report.locator("table.claims")
    table.scroll_into_view_if_needed()
    rows = table.locator("tbody tr th .statement")
    before = rows.all_inner_texts()
    button = table.locator("th button").first
    button.click()
    ascending = rows.all_inner_texts()
    assert ascending == sorted(before, key=str.casefold)
    button.click()
    assert rows.all_inner_texts() == ascending[::-1] != ascending
    picture("mlflow-report-claims")


def test_the_report_in_its_frame_sorts_heads(report):
    viewer = report.locator(".viewer[data-viewer=heat-attention-distance]")
    viewer.scroll_into_view_if_needed()
    canvas = viewer.locator("canvas").first
    before = canvas.evaluate("c => c.toDataURL()")
    viewer.get_by_label("Sort each row’s heads by value").check()
    assert canvas.evaluate("c => c.toDataURL()") != before
