import json
import os

import pytest

from zoo.errors import UserError
from zoo.files import (
    check_replaceable,
    read_json,
    replacing_folder,
    sha256,
    write_bytes,
    write_json,
)


def test_a_folder_that_cannot_be_made_is_named_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    said = "file is no folder that you may write to; name another"
    for inside in ("file/report", "file/more/report"):
        with pytest.raises(UserError, match=said):
            check_replaceable(tmp_path / inside, "report.json", ())
    check_replaceable(tmp_path / "new" / "report", "report.json", ())
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    for name in ("report", "new/report"):
        with pytest.raises(UserError, match=f"{name} cannot be written: .* is no folder that"):
            check_replaceable(tmp_path / name, "report.json", ())


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.files.os.fsync", no_space)
    with pytest.raises(OSError, match="No space left") as raised:
        write_json(path, {"new": 2})
    assert raised.value.filename == str(path)
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "model"
    with replacing_folder(folder) as new:
        (new / "a").write_text("1")
    with pytest.raises(FileNotFoundError) as raised, replacing_folder(folder) as new:
        (new / "no such folder" / "b").write_text("2")
    assert raised.value.filename == str(folder / "no such folder" / "b")
    assert [p.name for p in folder.iterdir()] == ["a"]
    with replacing_folder(folder) as new:
        (new / "c").write_text("3")
    assert [p.name for p in folder.iterdir()] == ["c"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    with replacing_folder(folder) as new:
        (new / "a").write_text("1")
    rename = os.replace

    def fail_on_the_new(source, target):
        if target == folder and source.name != "replaced":
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr("zoo.files.os.replace", fail_on_the_new)
    with pytest.raises(OSError, match="Input/output"), replacing_folder(folder) as new:
        (new / "b").write_text("2")
    assert [p.name for p in folder.iterdir()] == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_process_left_aside_is_put_back_or_removed(tmp_path):
    folder, aside = tmp_path / "model", tmp_path / ".model.old.abcdefgh" / "replaced"
    other = tmp_path / ".model.old.x.old.abcdefgh" / "replaced"
    other.mkdir(parents=True)
    aside.mkdir(parents=True)
    (aside / "old").touch()
    with pytest.raises(ZeroDivisionError), replacing_folder(folder):
        raise ZeroDivisionError
    assert [p.name for p in folder.iterdir()] == ["old"]
    assert not aside.parent.exists()
    aside.mkdir(parents=True)
    with replacing_folder(folder) as new:
        (new / "new").touch()
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert not aside.parent.exists()
    assert other.exists()


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("before", [1, 2])
def test_a_process_that_gets_in_between_is_no_error(tmp_path, monkeypatch, there, before):
    """Another process replaces the same folder just before our first or second rename."""
    folder, rename, calls = tmp_path / "model", os.replace, []
    if there:
        with replacing_folder(folder) as new:
            (new / "old").touch()

    def interfering(source, target):
        calls.append(source)
        if len(calls) == before:
            with replacing_folder(folder) as new:
                (new / "theirs").touch()
        rename(source, target)

    with replacing_folder(folder) as new:
        (new / "ours").touch()
        monkeypatch.setattr("zoo.files.os.replace", interfering)
    assert [p.name for p in folder.iterdir()] == ["ours"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_taken_aside_just_now_is_no_error(tmp_path, monkeypatch):
    """Another process has renamed the old folder aside, and is killed."""
    folder, rename, calls = tmp_path / "model", os.replace, []
    with replacing_folder(folder) as new:
        (new / "old").touch()

    def interfering(source, target):
        calls.append(source)
        if len(calls) == 1:
            (tmp_path / ".model.old.abcdefgh").mkdir()
            rename(folder, tmp_path / ".model.old.abcdefgh" / "replaced")
        rename(source, target)

    with replacing_folder(folder) as new:
        (new / "ours").touch()
        monkeypatch.setattr("zoo.files.os.replace", interfering)
    assert [p.name for p in folder.iterdir()] == ["ours"]


def test_a_folder_that_others_never_leave_alone_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.files._publish", lambda *_: False)
    with (
        pytest.raises(UserError, match="model is being replaced by other processes"),
        replacing_folder(tmp_path / "model"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_or_a_link_in_the_place_of_a_folder_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "kept").touch()
    (tmp_path / "model").symlink_to(tmp_path / "real")
    with replacing_folder(tmp_path / "model") as new:
        (new / "a").touch()
    assert not (tmp_path / "model").is_symlink()
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["a"]
    assert (tmp_path / "real" / "kept").exists()


def test_only_what_zoo_wrote_may_be_replaced(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "report.json").touch()
    for name in ("absent", "empty", "own"):
        check_replaceable(tmp_path / name, "report.json", ())
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="zoo did not write it"):
            check_replaceable(path, "report.json", ())


COMPARISON = ("report.html", "figures", "arrays")
TRANSFER = ("data", "model", "layers.csv", "transfer.png", "transfer.svg")


@pytest.mark.parametrize(
    ("there", "mark", "beside", "why"),
    [
        (["report.json", *COMPARISON], "report.json", COMPARISON, ""),
        (["report.json", *COMPARISON, ".DS_Store"], "report.json", COMPARISON, ""),
        (["report.json", *COMPARISON], "report.json", TRANSFER, "it holds arrays, figures"),
        (["report.json", *TRANSFER], "report.json", COMPARISON, "it holds data, layers.csv, mod"),
        (["report.json", "chapters"], "report.json", COMPARISON, "but it holds chapters; name"),
        (["report.json", ".git"], "report.json", COMPARISON, "but it holds .git; name"),
        (["figures"], "report.json", COMPARISON, "but it has no report.json; name"),
    ],
)
def test_one_file_that_zoo_knows_does_not_make_a_folder_its_own(tmp_path, there, mark, beside, why):
    for name in there:
        path = tmp_path / name
        path.touch() if "." in name else path.mkdir()
    if not why:
        check_replaceable(tmp_path, mark, beside)
        return
    with pytest.raises(UserError) as caught:
        check_replaceable(tmp_path, mark, beside)
    assert why in str(caught.value)


def test_what_may_not_be_written_is_named_rather_than_the_temporary_file(tmp_path, monkeypatch):
    def refuse(*_, dir, prefix):
        raise PermissionError(13, "Permission denied", f"{dir}/{prefix}abcdefgh")

    monkeypatch.setattr("zoo.files.tempfile.mkstemp", refuse)
    monkeypatch.setattr("zoo.files.tempfile.mkdtemp", refuse)
    with pytest.raises(PermissionError) as raised:
        write_json(tmp_path / "a.json", {})
    assert raised.value.filename == str(tmp_path / "a.json")
    with pytest.raises(PermissionError) as raised, replacing_folder(tmp_path / "report"):
        pytest.fail("there is no folder to write to")
    assert raised.value.filename == str(tmp_path / "report")


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as raised, replacing_folder(tmp_path / "report"):
        (tmp_path / "image.png").read_bytes()
    assert raised.value.filename == str(tmp_path / "image.png")
    with pytest.raises(OSError, match="timed out"), replacing_folder(tmp_path / "report"):
        raise TimeoutError("timed out")  # of a connection: it has no file


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", float("nan"))


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(
        UserError, match=r"a\.json is damaged: expected JSON, got .*; fetch it again"
    ):
        read_json(tmp_path / "a.json")


def test_the_digest_depends_on_bytes_and_order(tmp_path):
    write_bytes(tmp_path / "a", b"1")
    write_bytes(tmp_path / "b", b"2")
    a, b = tmp_path / "a", tmp_path / "b"
    assert sha256(a) == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert sha256(a, b) != sha256(b, a)
