import json
import os
from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.files import (
    read_json,
    sha256,
    user_path,
    write_bytes,
    write_json,
)


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


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", float("nan"))


@pytest.mark.parametrize(
    "content", ["{", "[NaN]", "[-Infinity]", "[" * 100_000, "1" * 5000, "\udcff"]
)
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(
        UserError, match=r"a\.json is damaged: expected JSON, got .*; fetch it again"
    ):
        read_json(tmp_path / "a.json")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"a\.json: expected a file, got a folder, a pipe"):
        read_json(tmp_path / "a.json")


def test_the_digest_depends_on_bytes_and_order(tmp_path):
    write_bytes(tmp_path / "a", b"1")
    write_bytes(tmp_path / "b", b"2")
    a, b = tmp_path / "a", tmp_path / "b"
    assert sha256(a) == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert sha256(a, b) != sha256(b, a)


def test_what_may_not_be_written_is_named_rather_than_the_temporary_file(tmp_path, monkeypatch):
    def refuse(*_, dir, prefix):
        raise PermissionError(13, "Permission denied", f"{dir}/{prefix}abcdefgh")

    monkeypatch.setattr("zoo.files.tempfile.mkstemp", refuse)
    with pytest.raises(PermissionError) as raised:
        write_json(tmp_path / "a.json", {})
    assert raised.value.filename == str(tmp_path / "a.json")


def test_a_path_means_the_same_before_and_after_its_parents_are_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "far").symlink_to("deep/er")
    for text, meant in [
        ("absent/../there", tmp_path / "there"),
        ("absent/more/../../there/", tmp_path / "there"),
        ("./there/../link/x", tmp_path / "link" / "x"),  # a link after the last .. stays
        ("far/../x", tmp_path / "deep" / "x"),  # as the system reads it
        ("..", tmp_path.parent),
        (".", tmp_path),
        ("/", Path("/")),
        ("there", Path("there")),
    ]:
        assert user_path(text) == meant
        assert user_path(text, tmp_path).is_absolute()


def test_home_is_the_users_and_no_folder_of_that_name_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/report") == tmp_path / "report"
    assert user_path("~/report", Path("base")) == tmp_path / "report"
    assert user_path("./~nosuch/x") == Path("~nosuch/x")
    with pytest.raises(UserError, match="~nosuch/x: no home folder is known for ~nosuch; write"):
        user_path("~nosuch/x")
    with pytest.raises(UserError, match="null character"):
        user_path("a\0b")
