"""Whatever lies on a disk, whatever path is named, and whoever gets in between: nothing is lost.

`ZOO_PATH_CASES=10000 pytest tests/test_nothing_is_lost.py` tries as many cases.
"""

import itertools
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.test_folders import NEW, REPORT, WRITTEN, write
from zoo.errors import UserError
from zoo.files import user_path
from zoo.folders import check_replaceable, replacing_folder

CASES = int(os.environ.get("ZOO_PATH_CASES", "300"))
NAMES = ["a", "A", "b", "figures", "report.json"]
# Deeper than the most `..` of a path and of the link in it: no case leads out of its own folder.
DEPTH, LONGEST = 8, 6

names = st.sampled_from(NAMES)
places = st.lists(names, min_size=1, max_size=3).map("/".join)
nodes = st.one_of(
    st.sampled_from(["file", "folder", "pipe", "own", "own and note", "own and figure", "forged"]),
    places.map("link to {}".format),
)
parts = st.lists(st.sampled_from([*NAMES, "..", ".", "absent"]), min_size=1, max_size=LONGEST)
paths = st.builds(lambda parts, end: "/".join(parts) + end, parts, st.sampled_from(["", "/", "//"]))
ACTS = ("note", "folder", "file", "link", "note aside")
interruptions = st.none() | st.tuples(st.integers(0, 30), st.sampled_from(ACTS))


def build(root: Path, tree: dict[str, str], tokens) -> set[Path]:
    """Make a tree; return the files in it that zoo wrote."""
    own = set()
    for place, node in tree.items():
        path = root / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if node.startswith("link to "):
                path.symlink_to(root / node.removeprefix("link to "))
            elif node == "file":
                with path.open("x") as file:
                    file.write(next(tokens))
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
            write(path, {"notes.txt": next(tokens)})
        if node == "own and figure":
            write(path, {"figures/mine.pdf": next(tokens)})
        if node == "forged":
            write(path, {"report.json": f'{{"made by": "{next(tokens)}"}}'})
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


def get_between(act: str, path: Path, tokens) -> None:
    """Do what somebody else might do just now; where it cannot be done, nothing."""
    aside = [*path.parent.glob(f".{path.name}.old.*/replaced")]
    try:
        if act == "note":
            write(path, {"note.txt": next(tokens)})
        elif act == "note aside":
            for old in aside:
                write(old, {"note.txt": next(tokens), "figures/note.txt": next(tokens)})
        else:
            if os.path.lexists(path):
                path.rename(Path(tempfile.mkdtemp(dir=path.parent)) / "moved")
            if act == "folder":
                write(path, {"note.txt": next(tokens)})
            elif act == "file":
                path.write_text(next(tokens))
            else:
                path.symlink_to(path.parent)
    except OSError:
        pass


def interfering(stack: ExitStack, when: int, act: str, path: Path, tokens) -> None:
    """Get in between before the `when`th step by which a folder is replaced."""
    calls, busy = itertools.count(), []

    def before(step):
        def wrapped(*args, **kwargs):
            if not busy and next(calls) == when:
                busy.append(True)
                get_between(act, path, tokens)
                busy.clear()
            return step(*args, **kwargs)

        return wrapped

    for name in ("rename", "unlink", "rmdir", "scandir", "mkdir"):
        stack.enter_context(patch(f"zoo.folders.os.{name}", before(getattr(os, name))))


@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.dictionaries(places, nodes, max_size=6), paths, interruptions)
@example({"precious": "folder", "precious/file": "file"}, "absent/../precious", None)
@example({"a": "own"}, "a", (4, "folder"))
def test_nothing_that_zoo_did_not_write_is_changed_or_lost(tmp_path, tree, text, interruption):
    top = Path(tempfile.mkdtemp(dir=tmp_path))
    root = top.joinpath(*"0" * DEPTH)
    root.mkdir(parents=True)
    tokens = map("token {}".format, itertools.count())
    own = build(root, tree, tokens)
    before, done = foreign(top, own), False
    path = user_path(text, root)
    assert Path(os.path.realpath(path)).is_relative_to(top)
    with ExitStack() as stack:
        try:
            check_replaceable(path, REPORT)
            writing = replacing_folder(path, REPORT)
            write(writing.__enter__(), NEW)
            if interruption:
                interfering(stack, *interruption, path, tokens)
            writing.__exit__(None, None, None)
            done = True
        except UserError:
            pass
        except OSError:  # through a loop of links, or what somebody changes in the very moment
            if not (interruption or "link" in str(tree)):
                raise
    after = foreign(top, own)
    if interruption is None:
        assert after == before
        if done:
            assert {p.name for p in path.iterdir()} == set(NEW)
        assert not list(top.rglob(".*"))
    else:
        assert before.keys() <= after.keys()
        written = int(next(tokens).split()[1])
        held = "".join(name for _, name in after)
        assert all(f"token {i}" in held for i in range(written))
    shutil.rmtree(top)
