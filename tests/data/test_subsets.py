import errno
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.build import build_subsets
from zoo.data.image_files import resize
from zoo.data.sources import Source, Split, load_source
from zoo.data.subsets import content_digest, load_subset, verify_subset
from zoo.errors import UserError
from zoo.measures.sampling import balanced_order


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(5, 20), min_size=2, max_size=6), st.integers(0, 100), st.integers(1, 30)
)
def test_every_prefix_is_balanced_within_one_image_a_class(sizes, seed, count):
    labels = np.random.RandomState(seed).permutation(np.repeat(range(len(sizes)), sizes))
    order = balanced_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    count = min(count, len(sizes) * min(sizes))
    counts = np.bincount(labels[order[:count]], minlength=len(sizes))
    assert counts.max() - counts.min() <= 1


def build(folder, sizes, **changes):
    source = changes.pop("source", None) or load_source("digits", folder)
    arguments = {"image_size": 16, "validation": 0.1, "seed": 0} | changes
    return build_subsets(source, sizes, folder, **arguments)


def test_subsets_are_nested_held_out_and_reproducible(tmp_path):
    infos = build(tmp_path / "a", {"small": 50, "medium": 200, "full": "all"})
    small, medium, full, validation = (
        set(infos[name].indices) for name in ("small", "medium", "full", "validation")
    )
    assert small < medium < full
    assert not full & validation
    assert len(full) + len(validation) == 1438
    retry_on_conflict = build(tmp_path / "b", {"small": 50})
    assert retry_on_conflict["small"].digest == infos["small"].digest
    assert retry_on_conflict["test"].digest == infos["test"].digest
    other = build(tmp_path / "c", {"small": 50}, seed=1)
    assert other["small"].digest != infos["small"].digest


def test_a_subset_is_read_as_it_was_written(tmp_path):
    info = build(tmp_path, {"small": 50})["small"]
    subset = load_subset(tmp_path / "small")
    assert isinstance(subset.images, np.memmap)
    assert subset.images.shape == (50, 16, 16, 3)
    source = load_source("digits", tmp_path)
    index = info.indices[7]
    assert np.array_equal(subset.images[7], resize(source.train.read(index), 16))
    assert subset.labels[7] == source.train.labels[index]
    pixels = subset.images.reshape(-1, 3) / 255
    assert np.allclose(info.mean, pixels.mean(axis=0), atol=1e-6)
    assert np.allclose(info.std, pixels.std(axis=0), atol=1e-6)
    assert info.digest == content_digest(subset.images, subset.labels, info.class_names)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"small": 5000}, "^subset small: 5000 images asked for, digits has 1295"),
        ({"small": 0}, "expected a number of images or 'all', got 0"),
        ({"small": "most"}, "expected a number of images or 'all', got 'most'"),
        ({"test": 10}, "'test' is the name of a held-out split"),
    ],
)
def test_impossible_sizes_are_named(tmp_path, sizes, message):
    with pytest.raises(UserError, match=message):
        build(tmp_path, sizes)


def test_a_class_with_too_few_images_is_named(tmp_path):
    labels = np.array([0] * 20 + [1] * 4)
    split = Split(labels, lambda i: np.zeros((8, 8, 3), np.uint8))
    source = Source("toy", ("many", "few"), split, split)
    with pytest.raises(
        UserError, match=r"^subset small: 10 images need 5 of every class, 'few' has 3"
    ):
        build(tmp_path, {"small": 10}, source=source)
    assert build(tmp_path, {"full": "all"}, source=source)["full"].count == 21


def test_held_out_splits_of_a_source_that_lies_class_by_class_begin_with_every_class(tmp_path):
    labels = np.repeat([0, 1, 2], [40, 40, 60])
    split = Split(labels, lambda i: np.full((8, 8, 3), i, np.uint8))
    source = Source("toy", ("a", "b", "c"), split, split)
    build(tmp_path, {"full": "all"}, source=source, image_size=8)
    for name, held_out in (("validation", 14), ("test", 140)):
        subset = load_subset(tmp_path / name)
        assert len(subset) == held_out
        assert np.bincount(subset.labels[:12]).tolist() == [4, 4, 4]
        assert np.array_equal(subset.labels, labels[subset.images[:, 0, 0, 0]])


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no such call on this system")
def test_a_full_disk_is_an_error_before_any_image_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        build(tmp_path, {"small": 20})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["images.npy", "labels.npy"])
def test_a_flipped_bit_of_an_array_is_named(tmp_path, file):
    build(tmp_path, {"small": 20})
    path = tmp_path / "small" / file
    whole, refused = path.read_bytes(), 0
    for i in range(128):  # NumPy's header
        for flip in (0x01, 0x20, 0x80):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ flip]) + whole[i + 1 :])
            try:
                verify_subset(load_subset(tmp_path / "small"))
            except UserError as error:
                refused += 1
                assert len(str(error)) < 1000  # noqa: PT017
    assert refused > 200  # others change a blank of the header, and no number


@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "subset.json"])
def test_damaged_subset_files_are_named(tmp_path, file):
    build(tmp_path, {"small": 20})
    path = tmp_path / "small" / file
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=f"{file}.*damaged.*; build it again with: dvc repro"):
        load_subset(tmp_path / "small")
    path.unlink()
    with pytest.raises(UserError, match=r"no file|no subset in .*subset\.json"):
        load_subset(tmp_path / "small")


def test_a_changed_pixel_or_length_is_noticed(tmp_path):
    build(tmp_path, {"small": 20})
    folder = tmp_path / "small"
    images = np.load(folder / "images.npy")
    images[3, 4, 5] ^= 1
    np.save(folder / "images.npy", images)
    with pytest.raises(UserError, match="expected digest"):
        verify_subset(load_subset(folder))
    np.save(folder / "images.npy", images[:-1])
    with pytest.raises(UserError, match="expected images"):
        load_subset(folder)


def test_an_unknown_key_in_a_description_is_named(tmp_path):
    build(tmp_path, {"small": 20})
    path = tmp_path / "small" / "subset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": 1}))
    with pytest.raises(UserError, match="'colour'"):
        load_subset(tmp_path / "small")


def test_resizing_keeps_the_aspect_and_crops_the_centre():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    assert (resize(wide, 10) == 200).all()
    assert resize(wide, 10) is not wide
    assert resize(np.zeros((37, 21, 3), np.uint8), 16).shape == (16, 16, 3)
