import json

import pytest

from zoo.errors import UserError
from zoo.files import read_json, replacing_folder, sha256, write_bytes, write_json


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.files.os.fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "model"
    with replacing_folder(folder) as new:
        (new / "a").write_text("1")
    with pytest.raises(FileNotFoundError), replacing_folder(folder) as new:
        (new / "no such folder" / "b").write_text("2")
    assert [p.name for p in folder.iterdir()] == ["a"]
    with replacing_folder(folder) as new:
        (new / "c").write_text("3")
    assert [p.name for p in folder.iterdir()] == ["c"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", float("nan"))


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json is damaged: expected JSON"):
        read_json(tmp_path / "a.json")


def test_the_digest_depends_on_bytes_and_order(tmp_path):
    write_bytes(tmp_path / "a", b"1")
    write_bytes(tmp_path / "b", b"2")
    a, b = tmp_path / "a", tmp_path / "b"
    assert sha256(a) == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert sha256(a, b) != sha256(b, a)
