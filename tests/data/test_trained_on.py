"""Images that a model was trained on are known by their pixels, whatever they are called."""

import dataclasses
import shutil

import numpy as np
import pytest

from tests.conftest import cut_files
from zoo.data.pictures import read_pictures
from zoo.data.sources import Split, labelled_folder, load_source
from zoo.data.subsets import load_subset
from zoo.data.trained_on import count_trained_on, find_subset


@pytest.fixture(params=["arrays", "files"])
def subsets(request, digit_files, tmp_path):
    """Subsets of a folder of images: as arrays, and as files that stay where they are."""
    folder = tmp_path / "cut"
    cut_files(digit_files, folder, **({"max_array_gb": 0} if request.param == "files" else {}))
    return folder


def test_copies_of_training_images_are_found_and_no_others(subsets, digit_files, tmp_path):
    train = load_source("imagefolder", digit_files).train
    small = load_subset(subsets / "small")
    mine = tmp_path / "mine" / "0"
    mine.mkdir(parents=True)
    for n, i in enumerate(small.info.indices[:3]):
        shutil.copy(train.files[i], mine / f"{n}.png")
    other = digit_files / "test"
    shutil.copytree(other / "1", tmp_path / "mine" / "1")
    assert count_trained_on(labelled_folder(tmp_path / "mine")[1], small) == 3
    # A comparison reads pictures as squares of one size.
    pictures = read_pictures(tmp_path / "mine")
    assert count_trained_on(pictures.originals, small) == 3
    left = [path for path in pictures.first(4).files if path.parent == mine]
    assert count_trained_on(pictures.first(4).originals, small) == len(left)
    assert count_trained_on(labelled_folder(other)[1], small) == 0
    assert count_trained_on(labelled_folder(other)[1], None) == 0


def test_images_of_another_size_are_cut_as_the_subset_was(digits_folder):
    small = load_subset(digits_folder / "small")
    digits = load_source("digits", digits_folder)  # of 8 pixels
    assert small.info.image_size == 16
    assert count_trained_on(digits.train, small) == len(small)
    assert count_trained_on(digits.test, small) == 0
    shown = Split(np.asarray(small.labels), lambda i: small.images[i])
    assert count_trained_on(shown, small) == len(small)


def test_a_subset_is_found_by_its_digest(digits_folder, tmp_path):
    small = load_subset(digits_folder / "small").info
    assert dataclasses.asdict(find_subset(digits_folder, small.digest).info)["name"] == "small"
    assert find_subset(digits_folder, "0" * 64) is None
    assert find_subset(digits_folder, "") is None
    assert find_subset(tmp_path / "nothing", small.digest) is None
    shutil.copytree(digits_folder / "small", tmp_path / "small")
    (tmp_path / "small" / "images.npy").write_bytes(b"")
    assert find_subset(tmp_path, small.digest) is None
