"""Subsets whose images stay in their files: the same pixels as arrays, and no stale file."""

import json

import numpy as np
import pytest

from tests.conftest import cut_files
from zoo.analyses.engine import compare_models
from zoo.data.sources import load_source
from zoo.data.subsets import IMAGES, load_subset, verify_subset
from zoo.data.undecoded import ImageFiles
from zoo.errors import UserError
from zoo.registry.images import evaluation_images

PARTS = ("small", "full", "validation", "test")


@pytest.fixture
def both(digit_files, tmp_path):
    """The subsets of one folder as arrays, and as files."""
    return [
        {name: load_subset(folder / name) for name in PARTS}
        for folder in (
            cut_files(digit_files, tmp_path / "arrays"),
            cut_files(digit_files, tmp_path / "files", max_array_gb=0),
        )
    ]


def test_files_hold_the_pixels_labels_and_statistics_of_arrays(both):
    arrays, files = both
    for name in PARTS:
        one, other = arrays[name], files[name]
        assert isinstance(other.images, ImageFiles)
        assert other.images.shape == one.images.shape
        assert np.array_equal(np.asarray(other.images), one.images)
        assert np.array_equal(other.images[3], one.images[3])
        assert np.array_equal(other.images[2:9], one.images[2:9])
        assert np.array_equal(other.images[[5, 1]], one.images[[5, 1]])
        assert np.array_equal(other.labels, one.labels)
        for key in ("indices", "mean", "std", "count", "class_names", "source"):
            assert getattr(other.info, key) == getattr(one.info, key)
        assert other.info.digest != one.info.digest
        verify_subset(other)
    assert files["full"].images.paths[:40].tolist() == files["small"].images.paths.tolist()


def test_no_pixels_are_written_and_the_description_of_arrays_stays_as_it_was(both, tmp_path):
    assert not [*(tmp_path / "files").rglob(IMAGES)]
    assert "root" not in json.loads((tmp_path / "arrays" / "full" / "subset.json").read_text())


@pytest.mark.parametrize(("factor", "stays"), [(0.999, True), (1.0, False)])
def test_the_size_of_all_subsets_together_decides(digit_files, tmp_path, factor, stays):
    counts = [load_subset(cut_files(digit_files, tmp_path / "a") / name).info for name in PARTS]
    size = sum(info.count for info in counts) * 16 * 16 * 3 / 1e9
    folder = cut_files(digit_files, tmp_path / "b", max_array_gb=size * factor)
    assert isinstance(load_subset(folder / "small").images, ImageFiles) is stays


def test_a_source_without_files_becomes_arrays(tmp_path):
    digits = load_source("digits", tmp_path)
    folder = cut_files(tmp_path, tmp_path / "cut", source=digits, max_array_gb=0)
    assert isinstance(load_subset(folder / "small").images, np.memmap)


def test_the_digest_follows_a_file_and_a_changed_file_is_an_error_when_it_is_read(
    digit_files, tmp_path
):
    folder = cut_files(digit_files, tmp_path / "cut", max_array_gb=0)
    subset = load_subset(folder / "small")
    path = digit_files / subset.images.paths[3].decode()
    path.write_bytes(path.read_bytes() + b"\0")  # the same pixels, yet another file
    verify_subset(subset)
    with pytest.raises(UserError, match=rf"{path.name} was changed .* dvc repro --force subset"):
        subset.images[:5]
    again = cut_files(digit_files, tmp_path / "again", max_array_gb=0)
    assert load_subset(again / "small").info.digest != subset.info.digest
    path.unlink()
    with pytest.raises(UserError, match=rf"{path.name}: expected an image of this subset"):
        subset.images[3]


@pytest.mark.parametrize("name", ["paths.npy", "digests.npy", "labels.npy"])
def test_a_damaged_index_is_named(digit_files, tmp_path, name):
    folder = cut_files(digit_files, tmp_path / "cut", max_array_gb=0) / "small"
    whole = np.load(folder / name)
    np.save(folder / name, whole[:-1])
    with pytest.raises(UserError, match="is damaged"):
        load_subset(folder)
    changed = whole.copy()
    changed[0] = 0 if name != "paths.npy" else b"train/elsewhere.png"
    changed[1] = changed[0]
    np.save(folder / name, changed)
    with pytest.raises(UserError, match=r"is damaged|expected an image of this subset"):
        verify_subset(subset := load_subset(folder)), subset.images[0]


def test_a_folder_of_images_that_is_gone_is_named(digit_files, tmp_path):
    folder = cut_files(digit_files, tmp_path / "cut", max_array_gb=0)
    digit_files.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"its images stay in .*digits.*data\.root"):
        load_subset(folder / "test")


def test_damaged_images_are_all_named_and_nothing_is_cut(digit_files, tmp_path):
    broken = sorted(digit_files.rglob("*.png"))[:2]
    for path in broken:
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^2 images cannot be used") as raised:
        cut_files(digit_files, tmp_path / "cut", max_array_gb=0)
    assert all(path.name in str(raised.value) for path in broken)
    assert not (tmp_path / "cut" / "small").exists()


def test_networks_are_compared_on_them_as_on_arrays(both, make_model, tmp_path):
    models = [make_model("vit", "a"), make_model("vit", "b", seed=1)]
    seen = [
        evaluation_images(None, [], tmp_path / name / "test", None) for name in ("arrays", "files")
    ]
    arrays, files = (
        compare_models(models, one.images, one.labels, only=["accuracy", "cka"]) for one in seen
    )
    assert repr([*files.metrics()]) == repr([*arrays.metrics()])  # NaN is unlike itself
    assert seen[1].first(8).digest == seen[0].first(8).digest
    assert seen[1].evenly(8).digest == seen[0].evenly(8).digest
