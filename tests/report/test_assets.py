import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from zoo.report import html

HERE = Path(html.__file__).parent


def relative_luminance(colour: str) -> float:
    """WCAG 2.2's definition."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: str):
    light, dark = re.findall(r":root \{(.*?)\}", (HERE / "report.css").read_text(), re.S)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark))
    pairs = [(n, "paper") for n in ("ink", "quiet", "link", "yes", "no")]
    pairs += [("yes", "yes-wash"), ("no", "no-wash"), ("ink", "wash")]
    for text, ground in pairs:
        dim, bright = sorted(relative_luminance(colours[n]) for n in (text, ground))
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (text, ground)


def test_the_scripts_colours_are_viridis():
    listed = re.search(r'"(440154[\s\S]*?)"\n', (HERE / "report.js").read_text())[1]
    written = re.sub(r'["+\s]+', " ", listed).split()
    colours = mpl.colormaps["viridis"](np.arange(17) / 16)
    assert written == [mpl.colors.to_hex(colour)[1:] for colour in colours]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to parse JavaScript")
def test_the_script_parses():
    script = str(HERE / "report.js")
    done = subprocess.run(["node", "--check", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_part_that_a_network_lacks_is_not_said_to_be_unmeasurable():
    script = (HERE / "report.js").read_text()
    (words,) = re.findall(r'const NO_VALUE = "(.*)";', script)
    assert "no such part" in words
    assert "not measurable" in words
    assert re.findall(r".*\bmeasur(?:ed|able)\b.*", script) == [f'  const NO_VALUE = "{words}";']


IN_ANY_LOCALE = r"""
import locale, sys
from pathlib import Path
from zoo.files import read_json, write_json
from zoo.comparison import open_results
from zoo.report.html import ASSETS, HERE, render
assert locale.getpreferredencoding(False) == sys.argv[3]
write_json(Path(sys.argv[2]), "\u2212")
assert read_json(Path(sys.argv[2])) == "\u2212"
folder = Path(sys.argv[1])
page = render(read_json(folder / "report.json"), open_results(folder).results, folder / "figures")
assert all((HERE / name).read_text(encoding="utf-8") in page for name in ASSETS)
"""


@pytest.fixture(scope="module")
def locales(tmp_path_factory):
    """A folder with a Latin-1 locale, in which wrongly read UTF-8 raises no error."""
    folder = tmp_path_factory.mktemp("locales")
    named = str(folder / "en_US.ISO-8859-1")
    made = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", named]
    if (
        not shutil.which(made[0])
        or subprocess.run(made, capture_output=True, check=False).returncode
    ):
        pytest.skip("the C library cannot make a Latin-1 locale here")
    return folder


@pytest.mark.parametrize(
    ("locale", "encoding"), [("C", "ANSI_X3.4-1968"), ("en_US.ISO-8859-1", "ISO-8859-1")]
)
def test_the_page_is_the_same_in_any_locale(saved_comparison, tmp_path, locales, locale, encoding):
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", IN_ANY_LOCALE, saved_comparison, tmp_path / "a",
         encoding],
        env={**os.environ, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "LOCPATH": str(locales)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
