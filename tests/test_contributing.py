"""What CONTRIBUTING says of adding things holds for the examples that it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = ("zoo/**/*", "pipelines/*", "mkdocs.yml", "dvc.yaml", "params.yaml")
EXAMPLES = {
    r"patch[-_]components": {
        "zoo/analyses/patch_components.py",
        "zoo/measures/patch_components.py",
        "zoo/analyses/__init__.py",
        "zoo/report/questions.py",
        "mkdocs.yml",
    },
    r"\brsa\b": {"zoo/measures/rsa.py", "zoo/measures/table.py"},
    r"G-overconfident": {"zoo/claims/calibration.py"},
}


@pytest.mark.parametrize("pattern", EXAMPLES)
def test_no_other_file_knows_of_an_example(pattern):
    files = {
        p for place in PLACES for p in ROOT.glob(place) if p.suffix in {".py", ".yml", ".yaml"}
    }
    naming = {
        file.relative_to(ROOT).as_posix()
        for file in files
        if re.search(pattern, file.read_text("utf-8"))
    }
    assert naming == EXAMPLES[pattern]
    guide = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert all(f"`{file}`" in guide for file in naming)


def test_every_file_that_contributing_names_is_there():
    guide = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = re.findall(r"`((?:zoo|tests|docs|pipelines)/[\w./-]+\.\w+)`", guide)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).is_file()] == []
