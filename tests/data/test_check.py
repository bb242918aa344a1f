"""`zoo data check` finds at once all that would stop or spoil subsets, and only that."""

import shutil

import numpy as np
import pytest
from PIL import Image

from zoo.config import DataConfig
from zoo.data.build import build_subsets
from zoo.data.check import check_data, propose_subsets
from zoo.data.sources import load_source
from zoo.errors import UserError


@pytest.fixture
def root(tmp_path):
    """Two classes of 20 images, all different, 40 × 30 pixels."""
    random = np.random.RandomState(0)
    for name in ("a", "b"):
        for i in range(20):
            write(tmp_path / "images" / name / f"{i:02}.png", random, (30, 40))
    return tmp_path / "images"


def write(path, random, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.randint(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def look(root, image_size=16, subsets=None):
    data = DataConfig("imagefolder", str(root), image_size, 0.1, 0)
    return check_data(data, root, subsets or {})


def found(checked):
    return {(finding.kind, finding.what) for finding in checked.findings}


def test_images_that_are_well_give_no_finding_and_are_counted(root):
    checked = look(root, subsets={"small": 8, "full": "all"})
    assert checked.findings == ()
    assert checked.well
    assert checked.sizes.tolist() == [[30, 40]] * 40
    parts = checked.parts
    assert parts.classes == {"a": (16, 4), "b": (16, 4)}
    assert (parts.train, parts.validation, parts.test, parts.drawn) == (28, 4, 8, True)


def test_all_that_is_wrong_is_listed_at_once(root):
    random = np.random.RandomState(1)
    whole = (root / "a" / "03.png").read_bytes()
    (root / "a" / "03.png").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "no image.jpg").write_bytes(b"nothing")
    (root / "a" / "notes.txt").write_text("")
    write(root / "a" / "long.png", random, (20, 90))
    write(root / "b" / "tiny.png", random, (9, 9))
    write(root / "loose.png", random, (30, 40))
    shutil.copy(root / "a" / "04.png", root / "b" / "twin.png")
    checked = look(root, subsets={"small": 40, "medium": 3000, "full": "all"})
    assert found(checked) >= {
        ("wrong", "subsets.small"), ("wrong", "subsets.medium"),
        ("damaged", "a/03.png"), ("damaged", "b/no image.jpg"),
        ("odd", "a/long.png"), ("odd", "b/tiny.png"),
        ("unused", "a/notes.txt"), ("unused", "./"),
    }  # fmt: skip
    # Whether the twins share a split is drawn; one of them is named either way.
    twins = [f for f in checked.findings if "the same pixels" in f.why]
    assert len(twins) == 1
    assert len(checked.findings) == 9
    assert not checked.well
    assert len(checked.sizes) == 42 + 0  # 44 images lie in a class, two are damaged


def test_a_test_image_that_is_trained_on_is_a_leak(tmp_path):
    random = np.random.RandomState(0)
    for part in ("train", "test"):
        for name in ("a", "b"):
            for i in range(4):
                write(tmp_path / part / name / f"{i}.png", random, (20, 20))
    assert look(tmp_path).well
    shutil.copy(tmp_path / "train" / "a" / "1.png", tmp_path / "test" / "b" / "9.png")
    [leak] = look(tmp_path).findings
    assert (leak.kind, leak.what) == ("leak", "test/b/9.png")
    assert "train/a/1.png" in leak.why
    # The same pixels in another shape are another image.
    pixels = np.asarray(Image.open(tmp_path / "train" / "a" / "1.png")).reshape(40, 10, 3)
    Image.fromarray(pixels).save(tmp_path / "test" / "b" / "9.png")
    assert "leak" not in {finding.kind for finding in look(tmp_path).findings}


def test_what_most_images_are_is_no_oddity(root):
    assert look(root, image_size=64).findings == ()


def test_wrong_folders_do_not_keep_damaged_images_from_being_named(tmp_path):
    random = np.random.RandomState(0)
    write(tmp_path / "train" / "a" / "0.png", random, (20, 20))
    write(tmp_path / "test" / "b" / "0.png", random, (20, 20))
    (tmp_path / "train" / "a" / "1.png").write_bytes(b"nothing")
    checked = look(tmp_path)
    assert [finding.kind for finding in checked.findings] == ["wrong", "damaged"]
    assert checked.parts is None


def test_a_folder_without_an_image_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no images"):
        look(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        look(tmp_path / "absent")


@pytest.mark.parametrize("present", [[130] * 9 + [125], [900, 9], [1, 1], [2, 50, 3], [40, 40]])
def test_proposed_subsets_can_be_cut_and_grow(tmp_path, present):
    sizes = propose_subsets(np.array(present))
    assert list(sizes) == ["small", "medium", "full"]
    assert len(present) <= sizes["small"] <= sizes["medium"] <= sum(present)
    random = np.random.RandomState(0)
    # With one image for validation and one for testing on top, both drawn of every class.
    for label, count in enumerate(present):
        for i in range(count):
            write(tmp_path / "train" / str(label) / f"{i}.png", random, (4, 4))
        write(tmp_path / "train" / str(label) / "held out.png", random, (4, 4))
        write(tmp_path / "test" / str(label) / "0.png", random, (4, 4))
    source = load_source("imagefolder", tmp_path)
    infos = build_subsets(
        source, sizes, tmp_path / "subsets", image_size=4, validation=0.001, seed=0
    )
    labels = np.load(tmp_path / "subsets" / "medium" / "labels.npy")
    counts = np.bincount(labels, minlength=len(present))
    assert counts.max() - counts.min() <= 1
    assert infos["full"].count == sum(present)
