"""Each source reads files of its original format, which the tests write."""

import gzip
import hashlib
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import urllib.error

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from zoo.data.build import build_subsets
from zoo.data.image_files import find_images, read_image, warn_left_out
from zoo.data.pictures import read_pictures
from zoo.data.sources import labelled_folder, load_source
from zoo.errors import UserError
from zoo.measures.sampling import stratified_split

RANDOM = np.random.RandomState(0)
PIXELS = RANDOM.randint(0, 256, (4, 3, 32, 32), dtype=np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_digits_are_real_images_with_their_labels():
    source = load_source("digits", None)
    assert (len(source.train), len(source.test)) == (1438, 359)
    assert source.class_names == tuple("0123456789")
    image = source.train.read(0)
    assert (image.shape, image.dtype) == ((8, 8, 3), np.uint8)
    assert image.max() > 200
    retry_on_conflict = load_source("digits", None)
    assert np.array_equal(source.test.labels, retry_on_conflict.test.labels)


@pytest.mark.parametrize(
    ("name", "kind", "label"),
    [("cifar10", "CIFAR10", "labels"), ("cifar100", "CIFAR100", "fine_labels")],
)
def test_cifar_is_read_from_its_archive(tmp_path, monkeypatch, name, kind, label):
    dataset = getattr(torchvision.datasets, kind)
    folder = tmp_path / dataset.base_folder
    folder.mkdir()
    batch = {"data": PIXELS.reshape(4, -1), label: [0, 1, 1, 0]}
    meta_key = dataset.meta["key"]
    for file, content in (("train", batch), ("test", batch), ("meta", {meta_key: ["cat", "dog"]})):
        (folder / file).write_bytes(pickle.dumps(content))
    monkeypatch.setattr(dataset, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(dataset, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(
        dataset, "meta", {"filename": "meta", "key": meta_key, "md5": md5(folder / "meta")}
    )
    archive = tmp_path / dataset.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=dataset.base_folder)
    monkeypatch.setattr(dataset, "tgz_md5", md5(archive))
    for file in folder.iterdir():
        file.unlink()
    source = load_source(name, tmp_path)
    assert source.class_names == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 1, 1, 0]
    assert np.array_equal(source.train.read(2), PIXELS[2].transpose(1, 2, 0))


def test_svhn_is_read_from_its_mat_files(tmp_path, monkeypatch):
    splits = {}
    for split in ("train", "test"):
        path = tmp_path / f"{split}_32x32.mat"
        # The files count from 1 and call the digit 0 ten.
        savemat(path, {"X": PIXELS.transpose(2, 3, 1, 0), "y": np.array([[10], [1], [2], [9]])})
        splits[split] = ["", path.name, md5(path)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", splits)
    source = load_source("svhn", tmp_path)
    assert source.train.labels.tolist() == [0, 1, 2, 9]
    assert source.class_names == tuple("0123456789")
    assert np.array_equal(source.train.read(1), PIXELS[1].transpose(1, 2, 0))


def test_fashion_mnist_is_read_from_its_idx_files(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    grey = PIXELS[:, 0, :28, :28]
    for split in ("train", "t10k"):
        images = struct.pack(">HBBIII", 0, 8, 3, 4, 28, 28) + grey.tobytes()
        labels = struct.pack(">HBBI", 0, 8, 1, 4) + bytes([0, 1, 2, 9])
        for file, content in (("images-idx3", images), ("labels-idx1", labels)):
            (raw / f"{split}-{file}-ubyte").write_bytes(content)
            (raw / f"{split}-{file}-ubyte.gz").write_bytes(gzip.compress(content))
    source = load_source("fashion_mnist", tmp_path)
    assert source.class_names[0] == "T-shirt/top"
    assert np.array_equal(source.test.read(3), np.repeat(grey[3][:, :, None], 3, axis=2))


def write_folder(root, split, classes, count=4):
    for name in classes:
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(PIXELS[i % 4].transpose(1, 2, 0)).save(folder / f"{i}.png")


def test_an_image_folder_with_train_and_test(tmp_path):
    write_folder(tmp_path, "train", ["b", "a"])
    write_folder(tmp_path, "test", ["a", "b"], count=1)
    source = load_source("imagefolder", tmp_path)
    assert source.class_names == ("a", "b")
    assert source.train.labels.tolist() == [0] * 4 + [1] * 4
    assert np.array_equal(source.test.read(1), PIXELS[0].transpose(1, 2, 0))


def test_a_lone_image_folder_is_split_with_every_class_in_both_parts(tmp_path):
    write_folder(tmp_path, ".", ["a", "b"])
    source = load_source("imagefolder", tmp_path, seed=1)
    assert source.test.labels.tolist() == [0, 1]
    assert source.train.labels.tolist() == [0] * 3 + [1] * 3


def test_a_pipe_among_images_is_left_out_and_a_name_of_another_encoding_is_told(tmp_path):
    write_folder(tmp_path, ".", ["a", "b"])
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert len(find_images(tmp_path / "a")) == 4
    odd = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / odd)
    with pytest.raises(UserError, match=r"a: expected names in UTF-8, got 'caf\\udce9.png': ren"):
        load_source("imagefolder", tmp_path)
    (tmp_path / "b").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    with pytest.raises(UserError, match=r"expected names in UTF-8, got 'caf\\udce9': rename"):
        load_source("imagefolder", tmp_path)


def test_bad_image_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        load_source("imagefolder", tmp_path / "nothing")
    write_folder(tmp_path, "train", ["a", "b"])
    write_folder(tmp_path, "test", ["a", "c"])
    with pytest.raises(UserError, match="only in one of them: b, c"):
        load_source("imagefolder", tmp_path)


@pytest.mark.parametrize(
    ("classes", "wrong"),
    [
        (["train/a", "train/b", "val/a", "val/b"], "train, val"),
        (["train/a", "train/b"], "train"),
        (["Train/a", "Test/a"], "Test, Train"),
        (["training", "validation"], "training, validation"),
        (["train/a", "train/b", "c"], "train"),
    ],
)
def test_splits_are_not_taken_for_classes(tmp_path, classes, wrong):
    write_folder(tmp_path, ".", classes)
    (tmp_path / classes[0].split("/")[0] / ".DS_Store").touch()
    with pytest.raises(UserError, match=f": {wrong} cannot be classes; expected train/<class>"):
        load_source("imagefolder", tmp_path)


def test_a_class_may_be_called_like_a_split_and_hold_folders_beside_images(tmp_path):
    write_folder(tmp_path, ".", ["bus/red", "train", "train/steam"])
    source = load_source("imagefolder", tmp_path)
    assert source.class_names == ("bus", "train")
    assert len(source.train) + len(source.test) == 12


def test_hidden_files_are_neither_images_nor_classes(tmp_path):
    shown, littered = tmp_path / "shown", tmp_path / ".hidden" / "littered"
    for root in (shown, littered):
        write_folder(root, "train", ["a", "b"])
        write_folder(root, "test", ["a", "b"])
    for name in ("a/._0.png", "__MACOSX/0.png", "a/__MACOSX/0.png", ".git/0.png",
                 "b/.ipynb_checkpoints/0-checkpoint.png"):  # fmt: skip
        file = littered / "train" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"no image")
    sources = [load_source("imagefolder", root) for root in (shown, littered)]
    assert sources[1].class_names == ("a", "b")
    for split in ("train", "test"):
        clean, found = (getattr(source, split) for source in sources)
        assert found.labels.tolist() == clean.labels.tolist()
        for i in range(len(clean)):
            assert np.array_equal(found.read(i), clean.read(i))


def test_a_truncated_image_is_named(tmp_path):
    write_folder(tmp_path, "train", ["a", "b"])
    write_folder(tmp_path, "test", ["a", "b"])
    broken = tmp_path / "train" / "a" / "0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    source = load_source("imagefolder", tmp_path)
    with pytest.raises(UserError, match=r"0\.png: damaged image"):
        source.train.read(0)


def test_grey_images_of_16_bits_keep_their_greys_and_of_32_are_refused(tmp_path):
    write_folder(tmp_path, "train", ["a", "b"], count=1)
    write_folder(tmp_path, "test", ["a", "b"], count=1)
    grey = RANDOM.randint(0, 2**16, (5, 6)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "train" / "a" / "0.png")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "train" / "b" / "0.tif")
    train = load_source("imagefolder", tmp_path).train
    assert np.array_equal(train.read(0), np.repeat((grey // 256)[:, :, None], 3, axis=2))
    with pytest.raises(UserError, match=r"0\.tif: expected 8 or 16 bits a channel, got 32"):
        train.read(2)


def test_an_image_of_too_many_pixels_is_named(tmp_path, monkeypatch):
    write_folder(tmp_path, "train", ["a", "b"])
    write_folder(tmp_path, "test", ["a", "b"])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    said = r"0\.png: expected an image of at most 200 pixels, got more: make it smaller$"
    with pytest.raises(UserError, match=said):
        load_source("imagefolder", tmp_path).train.read(0)


def test_a_large_image_is_read_without_a_warning(tmp_path):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    code = (
        "import sys; from pathlib import Path; from PIL import Image\n"
        "from zoo.data.image_files import read_image\n"
        "Image.MAX_IMAGE_PIXELS = 500; print(read_image(Path(sys.argv[1])).shape)"
    )  # on its own: pytest lets all warnings through
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(20, 30, 3)\n", "")


@pytest.mark.parametrize(
    ("content", "what"), [(b"", "it is empty"), (b"<p>", "its content is no image")]
)
def test_what_is_no_image_is_said_without_an_object_in_memory(tmp_path, content, what):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError) as raised:
        read_image(tmp_path / "a.png")
    assert str(raised.value) == f"{tmp_path / 'a.png'}: damaged image ({what}); repair or remove it"


def test_suffixes_are_named_only_where_one_is_missing(tmp_path, caplog):
    link = tmp_path / "moved.png"
    link.symlink_to("nowhere.png")
    warn_left_out(tmp_path, [link])
    assert caplog.messages == [
        f"{tmp_path}: 1 file left out (moved.png): a link that leads nowhere"
    ]


def test_a_damaged_or_missing_archive_says_what_to_do(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(UserError, match=r"cifar10: could not be read from .* nor downloaded"):
        load_source("cifar10", tmp_path)


def test_an_archive_that_is_not_the_original_is_neither_unpacked_nor_unpickled(
    tmp_path, monkeypatch
):
    def away(*_):
        raise urllib.error.URLError("no network")

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", away)
    root = tmp_path / "root"
    (root / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "payload").write_bytes(pickle.dumps(Payload()))
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "payload", arcname="../slipped")
        tar.add(tmp_path / "payload", arcname="cifar-10-batches-py/data_batch_1")
    for file in ("data_batch_1", "test_batch", "batches.meta"):
        shutil.copyfile(tmp_path / "payload", root / "cifar-10-batches-py" / file)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"cifar10: could not be read from .* nor downloaded"):
        load_source("cifar10", root)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unknown_source_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        load_source("cifar1", tmp_path)


def test_a_stratified_split_takes_its_share_of_every_class():
    labels = np.repeat([0, 1, 2], [50, 30, 2])
    rest, held_out = stratified_split(labels, 0.2, seed=3)
    assert np.bincount(labels[held_out]).tolist() == [10, 6, 1]
    assert sorted([*rest, *held_out]) == list(range(82))
    with pytest.raises(UserError, match="class 0 has 1 image"):
        stratified_split(np.array([0, 1, 1]), 0.5, seed=0)
    with pytest.raises(UserError, match="class 'cat' has 1 image"):
        stratified_split(np.array([0, 1, 1]), 0.5, 0, ("cat", "dog"))


def test_a_photo_is_turned_the_way_its_camera_noted(tmp_path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=100)
    upright = read_image(tmp_path / "a.jpg")
    assert upright.shape == (64, 48, 3)
    assert upright[:30].min() > 250
    assert upright[34:].max() < 5


def test_an_unreadable_exif_block_costs_no_image(tmp_path):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(
        tmp_path / "a.jpg", exif=b"Exif\0\0nonsense"
    )
    assert read_image(tmp_path / "a.jpg").shape == (4, 6, 3)


def test_what_is_left_out_of_a_folder_is_counted_and_named_wherever_it_is_read(tmp_path, caplog):
    write_folder(tmp_path, "train", ["a", "b"], count=1)
    write_folder(tmp_path, "test", ["a", "b"], count=1)
    for part in ("train", "test"):
        folder = tmp_path / part / "a"
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(folder / "1.gif")
        (folder / "photo").write_bytes(b"")
        (folder / "notes.txt").write_text("")
    os.mkfifo(tmp_path / "train" / "a" / "pipe.png")
    (tmp_path / "test" / "a" / "moved.png").symlink_to("nowhere.png")
    assert load_source("imagefolder", tmp_path).train.labels.tolist() == [0, 0, 1]
    assert labelled_folder(tmp_path)[1].labels.tolist() == [0, 0, 1]
    assert len(read_pictures(tmp_path / "test")) == 3
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert ": 6 files left out (notes.txt, photo, pipe.png, …): " in told[0]
    for text in told[1:]:
        assert ": 3 files left out (moved.png, notes.txt, photo): a link that leads" in text
    assert "): not an image suffix, not a file, a link that leads nowhere; expected" in told[0]


def test_damaged_images_are_named_all_at_once_and_older_subsets_stay(tmp_path):
    images, subsets = tmp_path / "images", tmp_path / "subsets"
    for split in ("train", "test"):
        write_folder(images, split, ["a", "b"], count=12)

    def build():
        source = load_source("imagefolder", images)
        sizes = {"small": 4, "full": "all"}
        build_subsets(source, sizes, subsets, image_size=8, validation=0.2, seed=0)

    build()
    before = {path: path.read_bytes() for path in subsets.rglob("*.npy")}
    for name in ("train/a/0.png", "train/b/3.png", "test/b/1.png"):
        (images / name).write_bytes((images / name).read_bytes()[:60])
    with pytest.raises(UserError, match=r"^3 images cannot be used, and no subset") as raised:
        build()
    assert all(f"{name}: damaged image" in str(raised.value) for name in
               ("a/0.png", "b/3.png", "b/1.png"))  # fmt: skip
    assert {path: path.read_bytes() for path in subsets.rglob("*.npy")} == before
