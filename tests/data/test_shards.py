"""WebDataset's shards: the subsets of a folder with the same images, and each fault told."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest

from tests.conftest import cut_files
from zoo.config import DataConfig
from zoo.data.check import check_data
from zoo.data.sources import load_source
from zoo.data.subsets import IMAGES, load_subset
from zoo.data.undecoded import ImageFiles
from zoo.errors import UserError


def write_shard(path, members):
    """Write a tar of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def sharded(folder, to, names=("train", "val"), shards=3, label="cls"):
    """Write a folder's train and test images, in its order, as shards."""
    for part, name in zip(("train", "test"), names, strict=True):
        files = sorted((folder / part).rglob("*.png"))
        for number, some in enumerate(np.array_split(np.array(files), shards)):
            members = []
            for file in some:
                key, wanted = f"some/{file.parent.name}_{file.stem}", int(file.parent.name)
                text = json.dumps({"label": wanted, "of": "x"} if label == "json" else wanted)
                members += [(f"{key}.png", file.read_bytes()), (f"{key}.{label}", text.encode())]
            write_shard(to / f"mine-{name}-{number:04}.tar", members)
    (to / "classnames.txt").write_text("".join(f"{i}\n" for i in range(10)))
    return to


@pytest.mark.parametrize("label", ["cls", "json"])
@pytest.mark.parametrize("max_array_gb", [0, float("inf")])
def test_shards_give_the_subsets_of_a_folder_of_the_same_images(
    digit_files, tmp_path, label, max_array_gb
):
    root = sharded(digit_files, tmp_path / "shards", label=label)
    source = load_source("webdataset", root)
    assert (source.name, source.drawn) == ("webdataset", False)
    cut = cut_files(root, tmp_path / "new", source=source, max_array_gb=max_array_gb)
    theirs = cut_files(digit_files, tmp_path / "theirs")
    for name in ("small", "full", "validation", "test"):
        one, other = load_subset(cut / name), load_subset(theirs / name)
        assert isinstance(one.images, ImageFiles) is (max_array_gb == 0)
        assert (cut / name / IMAGES).exists() is (max_array_gb != 0)
        assert np.array_equal(np.asarray(one.images), other.images)
        assert np.array_equal(one.images[[5, 1]], other.images[[5, 1]])
        assert np.array_equal(one.images[3], other.images[3])
        assert np.array_equal(one.labels, other.labels)
        assert one.info.class_names == other.info.class_names


def test_a_changed_shard_is_told_when_an_image_of_it_is_read(digit_files, tmp_path):
    root = sharded(digit_files, tmp_path / "shards", shards=1)
    cut = cut_files(root, tmp_path / "cut", source=load_source("webdataset", root), max_array_gb=0)
    sorted((digit_files / "train").rglob("*.png"))[0].unlink()
    sharded(digit_files, root, shards=1)  # all others lie elsewhere now
    images = load_subset(cut / "full").images
    with pytest.raises(UserError, match=r"mine-train-0000\.tar was changed since the subsets"):
        images[:]
    np.save(cut / "full" / "places.npy", np.load(cut / "full" / "places.npy")[1:])
    with pytest.raises(UserError, match="is damaged"):
        load_subset(cut / "full")


def test_shards_of_no_named_part_are_one_pool_and_classes_are_numbers(digit_files, tmp_path):
    root = sharded(digit_files, tmp_path / "shards", names=("a", "b"))
    (root / "classnames.txt").unlink()
    source = load_source("webdataset", root)
    assert source.drawn
    assert len(source.train) + len(source.test) == 160
    assert source.class_names == tuple("0123456789")


def test_a_check_reads_shards_and_names_what_is_damaged(digit_files, tmp_path):
    root = sharded(digit_files, tmp_path / "shards")
    extra = [("z.jpg", b"no image"), ("z.cls", b"3")]
    write_shard(root / "train" / "more.tar", extra)
    data = DataConfig("webdataset", str(root), 16, 0.2, 0)
    found = check_data(data, root, {"small": 40})
    assert [(f.kind, f.what) for f in found.findings if f.kind == "damaged"] == [
        ("damaged", "train/more.tar/z.jpg")
    ]
    assert len(found.sizes) == 160


IMAGE = ("a.png", b"...")


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ({}, "no shards; expected"),
        ({"a.tar": []}, "no samples in it"),
        ({"a.tar": [IMAGE]}, "sample 'a' has no class: expected a member a.cls"),
        ({"a.tar": [("a.cls", b"1")]}, "expected one image in sample 'a', got cls"),
        ({"a.tar": [IMAGE, ("a.jpg", b""), ("a.cls", b"1")]}, "expected one image in sample 'a'"),
        ({"a.tar": [IMAGE, ("a.cls", b"cat")]}, "a.cls: expected the number of a class"),
        ({"a.tar": [IMAGE, ("a.cls", b"true")]}, "expected the number of a class"),
        ({"a.tar": [IMAGE, ("a.cls", b"100000")]}, "expected the number of a class"),
        ({"a.tar": [IMAGE, ("a.json", b"{}")]}, "a.json: expected the number of a class"),
        ({"a.tar": [IMAGE, ("a.cls", b"0")]}, "two or more classes"),
        (
            {"train.tar": [IMAGE, ("a.cls", b"1")], "other.tar": [IMAGE, ("a.cls", b"0")]},
            "expected train or test .* in the name of each shard, or of none; got other.tar",
        ),
        (
            {"a.tar": [IMAGE, ("a.cls", b"7")], "classes.txt": b"cat\ndog\n"},
            "classes.txt: expected a line for each of 8 classes, got 2",
        ),
        ({"a.tar": [IMAGE, ("a.cls", b"1")], "classes.txt": b"\xff\n"}, "expected UTF-8"),
        ({"a.tar": gzip.compress(b"x" * 2000)}, "a.tar: damaged or compressed"),
    ],
)
def test_a_fault_of_shards_is_told(tmp_path, shards, message):
    for name, content in shards.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        else:
            write_shard(tmp_path / name, content)
    with pytest.raises(UserError, match=message):
        load_source("webdataset", tmp_path)


def test_links_in_a_shard_lead_nowhere_and_hidden_members_are_left_out(digit_files, tmp_path):
    (tmp_path / "secret").write_bytes(b"1")
    png = next(digit_files.rglob("*.png")).read_bytes()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("a.png", "._a.png", "b.png", "b.cls"):
            info = tarfile.TarInfo(name)
            info.size = len(png) if name.endswith("png") else 1
            archive.addfile(info, io.BytesIO(png if name.endswith("png") else b"1"))
            if name == "._a.png":
                link = tarfile.TarInfo("a.cls")
                link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
                archive.addfile(link)
    with pytest.raises(UserError, match="sample 'a' has no class"):
        load_source("webdataset", tmp_path)
