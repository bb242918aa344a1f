"""Pictures of any size become images to compare on; labels come from folders for classes."""

import numpy as np
import pytest
from PIL import Image

from zoo.data.image_files import resize
from zoo.data.pictures import read_pictures
from zoo.errors import UserError


def write(path, size, value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(len(str(path)))
    pixels = random.randint(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels if value is None else np.full_like(pixels, value)).save(path)


def test_pictures_without_classes_are_squares_of_one_size_without_labels(tmp_path):
    for i, size in enumerate([(20, 30), (50, 24), (16, 16)]):
        write(tmp_path / f"{i}.png", size, value=50 * i)
    found = read_pictures(tmp_path)
    assert found.images.shape == (3, 24, 24, 3)
    assert found.labels is None
    assert found.class_names == []
    assert found.source == tmp_path.name
    assert sorted(found.images[:, 0, 0, 0].tolist()) == [0, 50, 100]


def test_a_picture_is_its_centre_square_of_at_most_256_pixels(tmp_path):
    write(tmp_path / "a.png", (300, 700))
    found = read_pictures(tmp_path)
    assert np.array_equal(found.images[0], resize(np.asarray(Image.open(tmp_path / "a.png")), 256))


def test_folders_for_classes_are_labels_and_a_part_is_drawn_evenly(tmp_path):
    for name in ("dog", "cat"):
        for i in range(10):
            write(tmp_path / name / f"{i}.png", (8, 8), value=100 * (name == "dog") + i)
    found = read_pictures(tmp_path, 6)
    assert found.class_names == ["cat", "dog"]
    assert np.bincount(found.labels).tolist() == [3, 3]
    assert ((found.images[:, 0, 0, 0] >= 100) == found.labels).all()
    assert read_pictures(tmp_path, 6).digest == found.digest
    write(tmp_path / "lies in no class.png", (8, 8))
    assert read_pictures(tmp_path).labels is None


def test_damaged_pictures_are_named_all_at_once(tmp_path):
    write(tmp_path / "0.png", (8, 8))
    for name in ("x.jpg", "y.jpg"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"2 pictures cannot be used: .*x\.jpg.*y\.jpg"):
        read_pictures(tmp_path)


def test_splits_are_not_taken_for_classes(tmp_path):
    for part in ("train", "test"):
        write(tmp_path / part / "a" / "0.png", (8, 8))
    with pytest.raises(UserError, match="holds train and test: name one of them"):
        read_pictures(tmp_path)


def test_labels_count_the_classes_of_a_model_that_knows_them(tmp_path):
    for name in ("cat", "dog"):
        write(tmp_path / name / "0.png", (8, 8))
    found = read_pictures(tmp_path)
    seen = found.numbered_as([["cat", "bird"], ["dog", "bird", "cat"]])
    assert [seen.class_names[label] for label in seen.labels] == [
        found.class_names[label] for label in found.labels
    ]
    assert seen.class_names == ["dog", "bird", "cat"]
    assert found.numbered_as([["cat", "bird"]]) is found
    assert found.numbered_as([["dog", "bird", "cat"], ["cat", "dog"]]) is found
