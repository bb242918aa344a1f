"""Whatever lies on a disk, whatever path is named, and whoever gets in between: nothing is lost.

`ZOO_PATH_CASES=10000 pytest tests/test_nothing_is_lost.py` tries as many cases.
"""

import itertools
import os
import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.test_folders import NEW, REPORT, WRITTEN, write
from zoo.errors import UserError
from zoo.files import user_path
from zoo.files.folders import check_replaceable, replacing_folder

CASES = int(os.environ.get("ZOO_PATH_CASES", "300"))
# Deeper than the most `..` of a path and of the link in it: no case leads out of its own folder.
DEPTH, LONGEST = 8, 6

# Few names, so that paths and what gets in between meet what lies there.
names = st.sampled_from(["a", "A", "figures", "report.json"])
places = st.lists(names, min_size=1, max_size=2).map("/".join)
nodes = st.one_of(
    st.sampled_from(["own", "own", "own and note", "own and figure", "forged"]),
    st.sampled_from(["file", "folder", "pipe"]),
    places.map("link to {}".format),
)
trees = st.dictionaries(places, nodes, max_size=6)
parts = st.lists(names | st.sampled_from(["..", ".", "absent"]), min_size=1, max_size=LONGEST)
detours = st.sampled_from(["", "", "./", "absent/../", "absent/x/../../", "a/../"])
ends = st.sampled_from(["", "/", "//"])
paths = st.builds("{}{}{}".format, detours, places, ends) | parts.map("/".join)
ACTS = ("note", "folder", "file", "link", "note aside")
interruptions = st.dictionaries(st.integers(0, 14), st.sampled_from(ACTS), max_size=3)


class Somebody:
    """Writes files, each with other words in it, and remembers the words."""

    def __init__(self):
        self.words = []

    def write(self, path: Path, form: str = "{}") -> None:
        words = f"words {len(self.words)};"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(form.format(words))
        self.words.append(words)

    def write_note(self, folder: Path) -> None:
        self.write(folder / f"note {len(self.words)}")


def build(root: Path, tree: dict[str, str], somebody: Somebody) -> set[Path]:
    """Make a tree; return the files in it that zoo wrote."""
    own = set()
    for place, node in tree.items():
        path = root / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if node.startswith("link to "):
                path.symlink_to(root / node.removeprefix("link to "))
            elif node == "file":
                somebody.write(path)
            elif node == "pipe":
                os.mkfifo(path)
            else:
                path.mkdir()
        except OSError:
            continue  # something else stands there, or above
        if node.startswith("own"):
            write(path, WRITTEN)
            own |= {path / name for name in WRITTEN}
        if node == "own and note":
            somebody.write_note(path)
        if node == "own and figure":
            somebody.write(path / "figures" / "mine.pdf")
        if node == "forged":
            somebody.write(path / "report.json", '{{"made by": "{}"}}')
    return own


def foreign(top: Path, own: set[Path]) -> dict[tuple[int, str], Path]:
    """Return all that zoo did not write, told by what it is and holds, with its place."""
    found = {}
    for folder, below, files in os.walk(top):
        for path in (Path(folder, name) for name in (*below, *files)):
            if path in own or (path.is_dir() and not path.is_symlink()):
                continue
            if path.is_symlink():
                held = f"link to {path.readlink()}"
            else:
                held = path.read_text() if path.is_file() else "pipe"
            if held not in NEW.values():
                found[path.lstat().st_ino, held] = path
    return found


def get_between(act: str, path: Path, somebody: Somebody) -> None:
    """Do what somebody else might do just now; where it cannot be done, nothing."""
    with suppress(OSError):
        if act == "note":
            somebody.write_note(path)
        elif act == "note aside":
            for old in path.parent.glob(f".{path.name}.old.*/replaced"):
                somebody.write_note(old / "figures")
        else:
            if os.path.lexists(path):
                path.rename(Path(tempfile.mkdtemp(dir=path.parent)) / "moved")
            if act == "folder":
                somebody.write_note(path)
            elif act == "file":
                somebody.write(path)
            else:
                path.symlink_to(path.parent)


def interfering(stack: ExitStack, acts: dict[int, str], path: Path, somebody: Somebody) -> None:
    """Get in between before some of the steps by which a folder is replaced."""
    calls, busy = itertools.count(), []

    def before(step):
        def wrapped(*args, **kwargs):
            if not busy and (act := acts.get(next(calls))):
                busy.append(True)
                get_between(act, path, somebody)
                busy.clear()
            return step(*args, **kwargs)

        return wrapped

    for name in ("rename", "unlink", "rmdir", "scandir", "mkdir"):
        stack.enter_context(patch(f"zoo.files.folders.os.{name}", before(getattr(os, name))))


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(trees, paths, st.booleans(), interruptions)
@example({"precious": "folder", "precious/file": "file"}, "absent/../precious", True, {})
def test_nothing_that_zoo_did_not_write_is_changed_or_lost(tmp_path, tree, text, asked, acts):
    top = Path(tempfile.mkdtemp(dir=tmp_path))
    root = top.joinpath(*"0" * DEPTH)
    root.mkdir(parents=True)
    somebody = Somebody()
    own = build(root, tree, somebody)
    before, done = foreign(top, own), False
    meant = user_path(text, root)
    assert Path(os.path.realpath(meant)).is_relative_to(top)
    path = meant if asked else root / text  # as a person gives it, or another program
    with ExitStack() as stack:
        stack.enter_context(patch("zoo.files.folders.os.fsync"))  # most of the time, for nothing
        try:
            check_replaceable(path, REPORT)
            writing = replacing_folder(path, REPORT)
            write(writing.__enter__(), NEW)
            interfering(stack, acts, meant, somebody)
            writing.__exit__(None, None, None)
            done = True
        except UserError:
            pass
        except OSError:  # through a loop of links, or what somebody changes in the very moment
            if not (acts or "link" in str(tree)):
                raise
    after = foreign(top, own)
    if acts:
        assert before.keys() <= after.keys()
        # What others put there meanwhile is somewhere, too.
        held = "".join(what for _, what in after)
        assert [words for words in somebody.words if words not in held] == []
    else:
        assert after == before
        assert not list(top.rglob(".*"))
        assert not done or {p.name for p in meant.iterdir()} == set(NEW)
    shutil.rmtree(top)
