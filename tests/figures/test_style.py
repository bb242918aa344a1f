import threading
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from zoo.figures import style

SLACK = 0.5  # points that boxes may touch by, since letters end on whole dots


def layer_names(count: int, kind: str = "vit") -> list[str]:
    parts = {
        "vit": ("blocks", ["norm1", "attn.proj", "mlp.fc1", "mlp"]),
        "cnn": ("features.denseblock1", ["conv1", "bn1", "act1", "downsample.0"]),
    }
    stem, inner = parts[kind]
    return ["stem", *(f"{stem}.{i // 4}.{inner[i % 4]}" for i in range(count - 2)), "head"]


def heat_map(rows: int, columns: int, kind: str = "vit") -> style.HeatMap:
    values = np.random.default_rng(0).random((rows, columns))
    return style.HeatMap(
        values, layer_names(rows), layer_names(columns, kind), "vit-small", "resnet18-small"
    )


def draw(figure: Figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def visible_texts(figure: Figure) -> list:
    found = []
    for axis in figure.axes:
        if not axis.axison:
            found += [axis.title, *(text for text in axis.texts if is_beside(text))]
            continue
        found += [t for t in (*axis.get_xticklabels(), *axis.get_yticklabels()) if t.get_text()]
        found += [axis.title, axis._left_title, axis.xaxis.label, axis.yaxis.label]
    return [text for text in found if text.get_text() and text.get_visible()]


def is_beside(text) -> bool:
    """Whether a text stands around a grid of pictures instead of on one."""
    x, y = text.axes.transData.transform(text.get_position())
    return not text.axes.bbox.contains(x, y)


def overlap(a, b) -> bool:
    wide = min(a.x1, b.x1) - max(a.x0, b.x0)
    high = min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide > SLACK and high > SLACK


def assert_legible(figure: Figure) -> None:
    renderer = draw(figure)
    texts = visible_texts(figure)
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in boxes:
        inside = min(box.x0, box.y0) > -SLACK and box.x1 < width + SLACK and box.y1 < height + SLACK
        assert inside, f"{text!r} is cut off: {box}"
    for (one, a), (other, b) in combinations(boxes, 2):
        assert not overlap(a, b), f"{one!r} runs into {other!r}"
    for axis in figure.axes:
        if not axis.images:
            continue
        panel = axis.get_window_extent(renderer)
        covering = [text for text, box in boxes if overlap(box, panel)]
        assert not covering, f"{covering} lie over a panel"
    assert all(text.get_fontsize() >= style.LABEL_POINTS for text in texts)


@pytest.mark.parametrize(("layers", "panels"), [(10, 3), (60, 2), (60, 3), (200, 1), (200, 3)])
def test_heat_maps_are_legible_at_any_depth(layers: int, panels: int):
    kinds = ["vit", "cnn", "vit"]
    maps = [heat_map(layers, layers - 2, kinds[i]) for i in range(panels)]
    assert_legible(style.heat_maps(maps, colour_label="CKA", low=0, high=1))


@pytest.mark.parametrize("panels", [1, 2, 3, 7])
def test_heat_maps_fit_the_page_and_leave_no_empty_margins(panels: int):
    figure = style.heat_maps([heat_map(12, 12)] * panels, colour_label="CKA", low=0, high=1)
    renderer = draw(figure)
    width, height = figure.get_size_inches()
    used = figure.get_tightbbox(renderer)
    assert width <= style.WIDTH + 1e-6
    assert used.width > 0.93 * width
    assert used.height > 0.93 * height


@pytest.mark.parametrize("panels", [1, 3, 4])
def test_the_colour_bar_is_as_high_as_the_panels(panels: int):
    figure = style.heat_maps([heat_map(12, 12)] * panels, colour_label="CKA", low=0, high=1)
    draw(figure)
    *maps, bar = (axis.get_window_extent() for axis in figure.axes)
    assert bar.y0 == pytest.approx(min(box.y0 for box in maps), abs=1)
    assert bar.y1 == pytest.approx(max(box.y1 for box in maps), abs=1)
    assert all(box.width == pytest.approx(box.height, abs=1) for box in maps)


def test_heat_maps_share_one_colour_range_and_name_their_axes():
    figure = style.heat_maps([heat_map(5, 6), heat_map(6, 5)], colour_label="CKA", low=-1, high=2)
    first, second, bar = figure.axes
    assert first.images[0].get_clim() == second.images[0].get_clim() == (-1, 2)
    assert first._left_title.get_text() == "rows: vit-small\ncolumns: resnet18-small"
    assert bar.get_ylabel() == "CKA"


def test_the_first_layers_are_at_the_bottom_left():
    figure = style.heat_maps([heat_map(5, 6)], colour_label="CKA", low=0, high=1)
    axis = figure.axes[0]
    assert axis.get_ylim()[0] < axis.get_ylim()[1]
    assert axis.get_yticklabels()[0].get_text() == axis.get_xticklabels()[0].get_text() == "stem"


def test_cells_that_could_not_be_measured_show_the_hatching_behind_them():
    panel = heat_map(4, 4)
    panel.values[1, 2] = np.nan
    axis = style.heat_maps([panel], colour_label="CKA", low=0, high=1).axes[0]
    drawn = axis.images[0].get_array()
    assert axis.patch.get_hatch()
    assert np.argwhere(np.ma.getmaskarray(drawn)).tolist() == [[1, 2]]


def test_a_lone_heat_map_keeps_its_axis_titles():
    with style.styled():
        figure = style.new_figure(4, 4)
        style.heat_map(figure.subplots(), heat_map(100, 80), low=0, high=1)
    assert figure.axes[0].get_ylabel() == "vit-small"
    assert figure.axes[0].get_xlabel() == "resnet18-small"
    assert_legible(figure)


@pytest.mark.parametrize("text", ["layer3.1.downsample.0", "blocks.11.attn.proj", "WWWW"])
def test_text_is_measured_as_it_is_drawn(text: str):
    with style.styled():
        figure = Figure(dpi=150)
        drawn = figure.text(0.1, 0.5, text, fontsize=style.LABEL_POINTS)
    inches = drawn.get_window_extent(draw(figure)).width / figure.dpi
    assert style.text_width(text) == pytest.approx(inches, rel=0.12)


@pytest.mark.parametrize(
    ("count", "across", "sharey"), [(1, 1, True), (6, 3, True), (5, 3, True), (2, 2, False)]
)
def test_line_panels_have_the_size_that_was_asked_for_and_room_for_their_texts(
    count: int, across: int, sharey: bool
):
    with style.styled():
        gap = (0.15 if sharey else 0.6, 0.67)
        figure, axes = style.line_panels(count, size=(1.7, 1.5), gap=gap, sharey=sharey)
        for axis in axes:
            axis.plot([0, 1], [0, 25.5])
            axis.set(xticks=[0, 1], yticks=[0, 12.5, 25], xlabel="relative depth")
            axis.set_title("title", loc="left")
        for axis in axes[:: across if sharey else 1]:
            axis.set_ylabel("distance (pixels)")
    assert_legible(figure)
    assert len(axes) == count
    assert len({axis.get_position().y0 for axis in axes[:across]}) == 1
    for axis in axes:
        box = axis.get_window_extent()
        assert (box.width, box.height) == pytest.approx((1.7 * figure.dpi, 1.5 * figure.dpi))
        assert axis.get_ylim() == axes[0].get_ylim()


def test_the_style_lasts_only_for_its_context():
    before = mpl.rcParams["font.size"]
    with style.styled():
        assert mpl.rcParams["font.size"] == style.STYLE["font.size"] != before
    assert mpl.rcParams["font.size"] == before


def test_two_threads_that_draw_at_once_leave_no_style_behind():
    before, drawing = mpl.rcParams["font.size"], threading.Event()

    def draw():
        with style.styled():
            drawing.set()

    other = threading.Thread(target=draw)
    with style.styled():
        other.start()
        assert not drawing.wait(0.2)
    other.join()
    assert drawing.is_set()
    assert mpl.rcParams["font.size"] == before


def test_lines_of_many_points_have_no_markers():
    assert style.marker_points(12) > 0
    assert style.marker_points(200) == 0
