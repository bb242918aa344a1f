import base64
import re
import struct
import tempfile
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.figures.test_style import assert_legible, heat_map
from zoo.figures import style
from zoo.figures.saving import save_figure, saving


def test_saved_figures_are_the_same_bytes_each_time(tmp_path):
    saved = []
    for folder in ("one", "two"):
        with style.styled():
            figure = style.new_figure()
            image = figure.subplots().imshow(np.eye(3))
            figure.colorbar(image)
        paths = save_figure(figure, tmp_path / folder, "eye")
        saved.append([path.read_bytes() for path in paths])
    assert saved[0] == saved[1]
    assert [path.name for path in paths] == ["eye.png", "eye.svg"]
    assert b"<dc:date>" not in saved[0][1]


def test_saving_lays_out_once_and_cuts_nothing_off(tmp_path, monkeypatch):
    with style.styled():
        figure = style.new_figure(4, 2)
        axis = figure.subplots()
    axis.set(xlabel="depth (layers)", ylabel="a label of\ntwo lines", title="title")
    engine = figure.get_layout_engine()
    laid_out = []
    execute = type(engine).execute
    monkeypatch.setattr(
        type(engine), "execute", lambda *arguments: (laid_out.append(1), execute(*arguments))
    )
    png, _ = save_figure(figure, tmp_path, "one")
    assert laid_out == [1]
    assert struct.unpack(">II", png.read_bytes()[16:24]) == (600, 300)
    with style.styled():
        assert_legible(figure)


def test_a_heat_map_is_saved_cell_by_cell_so_that_it_stays_sharp(tmp_path):
    figure = style.heat_maps([heat_map(5, 6)], colour_label="CKA", low=0, high=1)
    _, svg = save_figure(figure, tmp_path, "map")
    embedded = re.findall(r'base64,([^"]+)"', svg.read_text().replace("\n", ""))
    sizes = [struct.unpack(">II", base64.b64decode(data)[16:24]) for data in embedded]
    assert (6, 5) in sizes


def test_signs_that_the_font_lacks_are_told_in_one_line(tmp_path, caplog, recwarn):
    figures = []
    for title in ("猫 and 馬", "a\tb 猫"):
        figure = style.new_figure(height=1)
        figure.subplots().set_title(title)
        figures.append(figure)
    with saving(tmp_path) as save:
        for i, figure in enumerate(figures):
            save(figure, f"f{i}")
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert [str(w.message) for w in recwarn] == ["something else"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "the figures' font lacks the glyphs 猫, 馬, \\t, so they show boxes; report.html has them"
    )
    caplog.clear()
    figures[0].axes[0].set_title("plain")
    save_figure(figures[0], tmp_path, "plain")
    assert not caplog.records


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@settings(max_examples=25, deadline=None)
def test_a_svg_is_xml_whatever_names_hold(text):
    name = f"{text}\x00\x1b]0;\x07\x9b\u202e\ufffe<&\x0b"
    with style.styled(), tempfile.TemporaryDirectory() as folder:
        figure = style.new_figure(2, 2)
        figure.subplots().set(title=name)
        _, svg = save_figure(figure, Path(folder), "named")
        drawn = "".join(ElementTree.parse(svg).getroot().itertext())
    assert r"\x00\x1b]0;\x07\x9b\u202e\ufffe<&\x0b" in drawn
