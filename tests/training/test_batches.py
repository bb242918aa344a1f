"""Training on images that stay in their files, which processes of their own decode."""

import os
from dataclasses import replace

import pytest
import torch

from tests.conftest import cut_files
from tests.training.test_loop import CONFIG, FULL_RECIPE, Recorder, run, untimed, weights
from zoo.data.augment import Augmentation
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.training.batches import TrainingImages, in_order, reading_processes
from zoo.training.loop import evaluate


@pytest.fixture
def folders(digit_files, tmp_path):
    """The subsets of one folder as arrays, and as files."""
    arrays = cut_files(digit_files, tmp_path / "arrays")
    return arrays, cut_files(digit_files, tmp_path / "files", max_array_gb=0)


def cores(monkeypatch, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)


def test_files_train_the_very_weights_that_arrays_do_where_nothing_is_cropped(make_model, folders):
    """Crops apart, each draw follows from the seed and the step or the epoch, wherever it is."""
    config = replace(CONFIG, **FULL_RECIPE | {"flip": False}, crop_padding=0, epochs=2)
    arrays, files = (run(make_model, folder, config) for folder in folders)
    assert torch.equal(weights(files), weights(arrays))
    assert untimed(files.epochs) == untimed(arrays.epochs)
    spec = make_model("vit").spec
    rated = [evaluate(arrays.module, spec, load_subset(folder / "test")) for folder in folders]
    assert rated[0] == rated[1]


def test_the_number_of_processes_that_read_and_a_stop_change_no_bit(
    make_model, folders, tmp_path, monkeypatch
):
    files, config = folders[1], replace(CONFIG, **FULL_RECIPE, epochs=3)
    cores(monkeypatch, 1)
    whole = run(make_model, files, config)
    other = run(make_model, files, config, seed=1)
    assert not torch.equal(weights(other), weights(whole))
    cores(monkeypatch, 3)
    assert reading_processes(load_subset(files / "small")) == 3

    class Stop(Recorder):
        def on_epoch(self, row, steps):
            super().on_epoch(row, steps)
            if len(self.rows) == 2:
                raise KeyboardInterrupt

    options = {"checkpoints": tmp_path / "checkpoints", "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        run(make_model, files, config, callbacks=[Stop()], **options)
    again = run(make_model, files, config, **options)
    assert torch.equal(weights(again), weights(whole))
    assert untimed(again.epochs) == untimed(whole.epochs)


def test_crops_follow_from_the_seed_and_the_step(folders):
    subset, config = load_subset(folders[1] / "small"), replace(CONFIG, crop_padding=4)
    still = Augmentation(config, classes=10, mean=[0.0] * 3, image_size=16, seed=0)
    drawn = {
        (seed, step): TrainingImages(subset, config, still, seed, ahead=True)(
            (step, torch.arange(40))
        )[0]
        for seed, step in ((0, 0), (0, 1), (1, 0))
    }
    again, labels = TrainingImages(subset, config, still, 0, ahead=True)((0, torch.arange(40)))
    assert torch.equal(again, drawn[0, 0])
    assert labels.tolist() == subset.labels.tolist()
    assert len({images.numpy().tobytes() for images in drawn.values()}) == 3


def test_a_file_that_changes_ends_training_with_one_line(make_model, digit_files, folders):
    subset = load_subset(folders[1] / "small")
    path = digit_files / subset.images.paths[7].decode()
    path.write_bytes(b"other")
    with pytest.raises(UserError, match=rf"{path.name} was changed") as raised:
        run(make_model, folders[1])
    assert "\n" not in str(raised.value)


def test_arrays_are_read_in_this_process_unless_a_gpu_would_wait_for_it(digits_folder, monkeypatch):
    cores(monkeypatch, 3)
    subset = load_subset(digits_folder / "small")
    assert reading_processes(subset) == 0
    assert reading_processes(subset, ahead=True) == 3


def test_arrays_made_ahead_are_the_batches_that_files_are(folders):
    """Crops too: they follow from the seed and the step, whoever makes the batch."""
    config = replace(CONFIG, **FULL_RECIPE)
    of = {"classes": 10, "mean": [0.0] * 3, "image_size": 16, "seed": 0}
    keys = [(step, torch.arange(10 * step, 10 * step + 10)) for step in range(3)]
    made = [
        [*in_order(TrainingImages(load_subset(folder / "small"), config, Augmentation(config, **of),
                                  0, ahead=True), keys, readers)]
        for folder, readers in ((folders[1], 1), (folders[0], 1), (folders[0], 2))
    ]  # fmt: skip
    assert config.augment
    assert config.crop_padding
    for others in made[1:]:
        for (images, labels), (other, classes) in zip(made[0], others, strict=True):
            assert torch.equal(images, other)
            assert torch.equal(labels, classes)


def test_processes_of_one_machine_share_its_cores(folders, monkeypatch):
    subset = load_subset(folders[1] / "small")
    cores(monkeypatch, 8)
    for together, each in (("2", 4), ("3", 2), ("16", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", together)
        assert reading_processes(subset) == each
