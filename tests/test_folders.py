import os
import shutil

import pytest
from dvc_objects.fs.utils import tmp_fname

from zoo.errors import UserError
from zoo.files.folders import FolderKind, check_replaceable, remove_folder, replacing_folder

ANY = FolderKind(files=("*",))
REPORT = FolderKind(
    "report.json",
    ("zoo_version",),
    files=("report.html",),
    folders={"figures": FolderKind(files=("*.png", "*.svg"))},
)
WRITTEN = {"report.json": '{"zoo_version": "1"}', "report.html": "", "figures/a.png": ""}
NEW = {"report.json": '{"zoo_version": "2"}'}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def contents(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def test_a_folder_that_cannot_be_made_is_named_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    said = "file is not a folder you may write to; name another"
    for inside in ("file/report", "file/more/report"):
        with pytest.raises(UserError, match=said):
            check_replaceable(tmp_path / inside, REPORT)
    check_replaceable(tmp_path / "new" / "report", REPORT)
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    for name in ("report", "new/report"):
        with pytest.raises(UserError, match=f"{name} cannot be written: .* is not a folder"):
            check_replaceable(tmp_path / name, REPORT)


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "model"
    with replacing_folder(folder, ANY) as new:
        (new / "a").write_text("1")
    with pytest.raises(FileNotFoundError) as raised, replacing_folder(folder, ANY) as new:
        (new / "no such folder" / "b").write_text("2")
    assert raised.value.filename == str(folder / "no such folder" / "b")
    assert [p.name for p in folder.iterdir()] == ["a"]
    with replacing_folder(folder, ANY) as new:
        (new / "c").write_text("3")
    assert [p.name for p in folder.iterdir()] == ["c"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    with replacing_folder(folder, ANY) as new:
        (new / "a").write_text("1")
    rename = os.rename

    def fail_on_the_new(source, target):
        if target == folder and "replaced" not in str(source):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr("zoo.files.folders.os.rename", fail_on_the_new)
    with pytest.raises(OSError, match="Input/output"), replacing_folder(folder, ANY) as new:
        (new / "b").write_text("2")
    assert [p.name for p in folder.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_process_left_aside_is_put_back_or_removed(tmp_path):
    folder, aside = tmp_path / "model", tmp_path / ".model.old.abcdefgh" / "replaced"
    other = tmp_path / ".model.old.x.old.abcdefgh" / "replaced"
    other.mkdir(parents=True)
    aside.mkdir(parents=True)
    (aside / "old").touch()
    with pytest.raises(ZeroDivisionError), replacing_folder(folder, ANY):
        raise ZeroDivisionError
    assert [p.name for p in folder.iterdir()] == ["old"]
    assert not aside.parent.exists()
    aside.mkdir(parents=True)
    with replacing_folder(folder, ANY) as new:
        (new / "new").touch()
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert not aside.parent.exists()
    assert other.exists()


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("before", [1, 2])
def test_a_process_that_gets_in_between_is_no_error(tmp_path, monkeypatch, there, before):
    """Another process replaces the same folder just before our first or second rename."""
    folder, rename, calls = tmp_path / "model", os.rename, []
    if there:
        with replacing_folder(folder, ANY) as new:
            (new / "old").touch()

    def interfering(source, target):
        calls.append(source)
        if len(calls) == before:
            with replacing_folder(folder, ANY) as new:
                (new / "theirs").touch()
        rename(source, target)

    with replacing_folder(folder, ANY) as new:
        (new / "ours").touch()
        monkeypatch.setattr("zoo.files.folders.os.rename", interfering)
    assert [p.name for p in folder.iterdir()] == ["ours"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_taken_aside_just_now_is_no_error(tmp_path, monkeypatch):
    """Another process has renamed the old folder aside, and is killed."""
    folder, rename, calls = tmp_path / "model", os.rename, []
    with replacing_folder(folder, ANY) as new:
        (new / "old").touch()

    def interfering(source, target):
        calls.append(source)
        if len(calls) == 1:
            (tmp_path / ".model.old.abcdefgh").mkdir()
            rename(folder, tmp_path / ".model.old.abcdefgh" / "replaced")
        rename(source, target)

    with replacing_folder(folder, ANY) as new:
        (new / "ours").touch()
        monkeypatch.setattr("zoo.files.folders.os.rename", interfering)
    assert [p.name for p in folder.iterdir()] == ["ours"]


def test_a_folder_that_others_never_leave_alone_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.files.folders._publish", lambda *_: False)
    with (
        pytest.raises(UserError, match="model is being replaced by other processes"),
        replacing_folder(tmp_path / "model", ANY),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({}, ""),
        (WRITTEN, ""),
        (WRITTEN | {".DS_Store": "", "figures/Thumbs.db": ""}, ""),
        (WRITTEN | {tmp_fname(): "", f"figures/{tmp_fname()}": ""}, ""),  # as DVC names them
        (WRITTEN | {f"{tmp_fname()}/a": ""}, "it contains "),
        (WRITTEN | {f"a{tmp_fname()}": ""}, "it contains a"),
        ({tmp_fname(): ""}, ""),
        ({tmp_fname(): "", "figures/a.png": ""}, "report.json is missing, damaged or written by"),
        ({"report.json": '{"zoo_version": "1", "more": 2}'}, ""),
        (WRITTEN | {"chapters/1.txt": ""}, "it contains chapters"),
        (WRITTEN | {".git/HEAD": ""}, r"it contains \.git"),
        (WRITTEN | {"figures/notes.txt": ""}, "it contains figures/notes.txt"),
        (WRITTEN | {"figures/old/a.png": ""}, "it contains figures/old"),
        (WRITTEN | {"Report.html": ""}, "it contains Report.html"),
        (dict.fromkeys("abcd", ""), "it contains a, b, c, …"),
        ({"figures/a.png": ""}, "report.json is missing, damaged or written by another"),
        ({"report.json/report.json": ""}, "it contains report.json"),
        (
            {"report.json": '{"version": "1"}'},
            "report.json is missing, damaged or written by another",
        ),
        (
            {"report.json": '["zoo_version"]'},
            "report.json is missing, damaged or written by another",
        ),
        ({"report.json": '{"zoo_version'}, "report.json is missing, damaged or written by another"),
        ({"report.json": "[" * 100_000}, "report.json is missing, damaged or written by another"),
        ({".DS_Store": ""}, ""),
    ],
)
def test_only_what_zoo_wrote_is_replaced(tmp_path, there, why):
    folder = tmp_path / "out"
    folder.mkdir()
    write(folder, there)
    if not why:
        check_replaceable(folder, REPORT)
        with replacing_folder(folder, REPORT) as new:
            write(new, NEW)
        assert contents(tmp_path) == {"out/report.json"}
        return
    said = f"refusing to overwrite {folder}, which zoo did not write: {why}"
    with pytest.raises(UserError, match=said):
        check_replaceable(folder, REPORT)
    with pytest.raises(UserError, match=said), replacing_folder(folder, REPORT):
        pytest.fail("refused before any work is done")
    assert contents(folder) == set(there)


def test_a_folder_in_a_folder_is_judged_by_its_own_kind(tmp_path):
    reports = FolderKind(folders={"*": REPORT})
    write(tmp_path / "all" / "one", WRITTEN)
    (tmp_path / "all" / "empty").mkdir()
    check_replaceable(tmp_path / "all", reports)
    write(tmp_path / "all" / "two", {"figures/a.svg": ""})
    with pytest.raises(UserError, match=r"two/report\.json is missing"):
        check_replaceable(tmp_path / "all", reports)


def test_links_files_and_pipes_are_neither_followed_nor_replaced(tmp_path):
    write(tmp_path / "real", WRITTEN)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("absent")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    write(tmp_path / "holds-link", {"report.json": WRITTEN["report.json"]})
    (tmp_path / "holds-link" / "figures").symlink_to("../real/figures")
    os.mkfifo(tmp_path / "real" / "figures" / "pipe.png")
    before = sorted(tmp_path.rglob("*"))
    for name, why in [
        ("link", "it is a link to real"),
        ("dangling", "it is a link to absent"),
        ("file", "it is not a folder"),
        ("pipe", "it is not a folder"),
        ("holds-link", "it contains figures"),
        ("real", "it contains figures/pipe.png"),
    ]:
        with pytest.raises(UserError, match=why), replacing_folder(tmp_path / name, REPORT):
            pytest.fail("refused before any work is done")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mount_point_is_named(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    write(tmp_path / "out", WRITTEN)
    mounted = {str(tmp_path / "disk"), str(tmp_path / "out" / "figures")}
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) in mounted)
    with pytest.raises(UserError, match="it is a mount point"):
        check_replaceable(tmp_path / "disk", REPORT)
    with pytest.raises(UserError, match="it contains figures"):
        check_replaceable(tmp_path / "out", REPORT)


def test_absent_parents_do_not_lead_to_another_folder(tmp_path):
    write(tmp_path / "precious", {"file": "keep"})
    with (
        pytest.raises(UserError, match="precious, which zoo did not write: it contains file"),
        replacing_folder(tmp_path / "absent" / ".." / "precious", REPORT),
    ):
        pytest.fail("refused before any work is done")
    assert contents(tmp_path) == {"precious/file"}
    assert not (tmp_path / "absent").exists()


def test_a_folder_that_appears_just_before_the_rename_is_put_back(tmp_path, monkeypatch):
    folder, rename = tmp_path / "out", os.rename
    write(folder, WRITTEN)

    def interfering(source, target):
        if source == f"{folder}/":
            shutil.rmtree(folder)
            write(folder, {"thesis.tex": "years of work"})
        rename(source, target)

    writing = replacing_folder(folder, REPORT)
    writing.__enter__()
    monkeypatch.setattr("zoo.files.folders.os.rename", interfering)
    with pytest.raises(UserError, match=r"it contains thesis\.tex"):
        writing.__exit__(None, None, None)
    assert contents(tmp_path) == {"out/thesis.tex"}


def test_a_file_that_appears_while_the_old_folder_is_removed_is_kept(tmp_path, monkeypatch, caplog):
    folder, unlink = tmp_path / "out", os.unlink
    write(folder, WRITTEN)

    def interfering(path):
        unlink(path)
        if path.endswith("a.png"):
            write(tmp_path, {os.path.relpath(path, tmp_path) + ".notes": "keep"})

    with replacing_folder(folder, REPORT) as new:
        write(new, NEW)
        monkeypatch.setattr("zoo.files.folders.os.unlink", interfering)
    (notes,) = [name for name in contents(tmp_path) if name.endswith(".notes")]
    assert notes.startswith(".out.old.")
    assert contents(folder) == set(NEW)
    assert "is kept: [Errno 39] Directory not empty" in caplog.text
    # Neither the next call nor any other takes it away.
    with replacing_folder(folder, REPORT) as new:
        write(new, NEW)
    assert (tmp_path / notes).read_text() == "keep"


def test_a_removal_that_is_killed_goes_on_with_the_next_call(tmp_path, monkeypatch):
    """The mark goes last: what is left of the old folder can be told to be zoo's."""
    folder, calls, unlink = tmp_path / "out", [], os.unlink
    write(folder, WRITTEN)

    def killed(path):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        unlink(path)

    writing = replacing_folder(folder, REPORT)
    write(writing.__enter__(), NEW)
    monkeypatch.setattr("zoo.files.folders.os.unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        writing.__exit__(None, None, None)
    monkeypatch.undo()
    assert len(contents(tmp_path)) == 2
    with replacing_folder(folder, REPORT) as new:
        write(new, NEW)
    assert contents(tmp_path) == {"out/report.json"}


def test_of_a_folder_that_is_no_longer_needed_the_rest_is_kept(tmp_path, caplog):
    lock = FolderKind(files=("lock",))
    remove_folder(tmp_path / "absent", lock)
    assert not caplog.text
    write(tmp_path / "own", {"lock": ""})
    remove_folder(tmp_path / "own", lock)
    write(tmp_path / "other", {"lock": "", "notes": ""})
    remove_folder(tmp_path / "other", lock)
    assert contents(tmp_path) == {"other/lock", "other/notes"}
    assert "other is kept: it contains notes" in caplog.text


def test_what_may_not_be_written_is_named_rather_than_the_temporary_folder(tmp_path, monkeypatch):
    def refuse(*_, dir, prefix):
        raise PermissionError(13, "Permission denied", f"{dir}/{prefix}abcdefgh")

    monkeypatch.setattr("zoo.files.folders.tempfile.mkdtemp", refuse)
    with (
        pytest.raises(PermissionError) as raised,
        replacing_folder(tmp_path / "report", REPORT),
    ):
        pytest.fail("there is no folder to write to")
    assert raised.value.filename == str(tmp_path / "report")


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as raised, replacing_folder(tmp_path / "report", REPORT):
        (tmp_path / "image.png").read_bytes()
    assert raised.value.filename == str(tmp_path / "image.png")
    with pytest.raises(OSError, match="timed out"), replacing_folder(tmp_path / "report", REPORT):
        raise TimeoutError("timed out")  # of a connection: it has no file


def test_a_folder_that_is_removed_while_it_is_published_is_named_at_once(tmp_path, monkeypatch):
    tries = []

    def interfering(*_):
        tries.append(1)
        if len(tries) == 2:  # the first time is before any work
            new.rmdir()

    monkeypatch.setattr("zoo.files.folders.check_replaceable", interfering)
    with (
        pytest.raises(FileNotFoundError, match="it was removed while it was written") as raised,
        replacing_folder(tmp_path / "model", ANY) as new,
    ):
        pass
    assert raised.value.filename == str(tmp_path / "model")
    assert len(tries) == 2
