"""What a change of zoo's code brings about: training again, measuring again, or drawing again."""

import shutil
from pathlib import Path

import pytest

import zoo.files
from zoo.files import code_digest
from zoo.study.identity import LOOKS, NUMBERS
from zoo.training.variants import CODE

PACKAGE = Path(zoo.files.__file__).parent.parent
IDENTITIES = {"weights": CODE, "numbers": NUMBERS, "looks": LOOKS}


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("report/report.css", {"looks"}),
        ("claims/cka.py", {"looks"}),
        ("figures/style.py", {"looks"}),
        ("analyses/cka.py", {"numbers", "looks"}),
        ("measures/linear_cka.py", {"numbers"}),
        ("models/imported.py", {"numbers"}),  # trains nothing again
        ("models/vit.py", {"weights", "numbers"}),
        ("training/loop.py", {"weights"}),
        ("registry/store.py", set()),
        ("cli/list.py", set()),
    ],
)
def test_a_changed_file_changes_the_identities_that_it_decides(
    file, changed, tmp_path, monkeypatch
):
    copy = tmp_path / "zoo"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(zoo.files, "__file__", str(copy / "files" / "__init__.py"))
    before = {name: code_digest(code) for name, code in IDENTITIES.items()}
    with (copy / file).open("a") as appended:
        appended.write("\n")
    after = {name: code_digest(code) for name, code in IDENTITIES.items()}
    assert {name for name in IDENTITIES if before[name] != after[name]} == changed
