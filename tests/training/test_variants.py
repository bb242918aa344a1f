import csv
import json
import math
import threading
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock, Timeout

from tests.conftest import TINY_VIT
from zoo.config import ModelConfig, Variant, load_params
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.files.folders import remove_folder
from zoo.models.files import load_model
from zoo.training.hardware import environment
from zoo.training.loop import evaluate
from zoo.training.variants import describe_run, input_digest, train_variant

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
TINY = replace(
    PARAMS,
    models={"vit": ModelConfig("vit", TINY_VIT), "odd": ModelConfig("vitt")},
    study=replace(PARAMS.study, models=["vit"]),
    compare=replace(PARAMS.compare, pairs=[]),
    train=replace(PARAMS.train, epochs=2),
)
VARIANT = Variant("vit", "small", 3)


def trained(digits_folder, tmp_path, params=TINY, variant=VARIANT):
    return train_variant(
        params,
        variant,
        subsets=digits_folder,
        folder=tmp_path / "model",
        checkpoints=tmp_path / "checkpoints",
    )


def test_a_trained_variant_is_complete_and_says_what_it_is(digits_folder, tmp_path):
    metrics = trained(digits_folder, tmp_path)
    model = load_model(tmp_path / "model")
    test = load_subset(digits_folder / "test")
    assert (model.name, model.spec.seed, model.spec.subset_count) == ("vit-small", 3, 40)
    assert model.spec.test_digest == test.info.digest
    # Pixels are scaled by what it was trained on alone.
    small = load_subset(digits_folder / "small").info
    assert (model.spec.mean, model.spec.std) == (small.mean, small.std)
    assert model.spec.metrics["test/accuracy"] == metrics["test"]["accuracy"]
    assert evaluate(model.module, model.spec, test)["accuracy"] == metrics["test"]["accuracy"]
    assert set(model.spec.environment) == {"torch", "device", "precision", "threads"}
    rows = list(csv.DictReader((tmp_path / "model" / "epochs.csv").open()))
    assert [float(row["epoch"]) for row in rows] == [1, 2]
    assert [path.suffix for path in (tmp_path / "checkpoints").iterdir()] == [".lock"]


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_a_run_says_how_many_images_it_sees(steps):
    # 40 images are two batches of 16 and one of 8 in every pass.
    seen = sum(islice(cycle([16, 16, 8]), steps))
    said = describe_run(replace(TINY.train, batch_size=16), steps, 40)
    assert (said["images_seen"], said["steps"]) == (seen, steps)
    assert said["epochs"] == math.ceil(steps / 3)


def test_files_of_others_are_named_before_anything_is_trained(digits_folder, tmp_path):
    trained(digits_folder, tmp_path)
    (tmp_path / "model" / ".gitignore").write_text("/spec.json")  # by DVC
    trained(digits_folder, tmp_path)
    assert not (tmp_path / "model" / ".gitignore").exists()
    (tmp_path / "model" / "notes.md").touch()
    with pytest.raises(UserError, match="model, which zoo did not write: it contains notes"):
        train_variant(
            TINY, VARIANT, subsets=tmp_path, folder=tmp_path / "model", checkpoints=tmp_path
        )


def test_the_same_variant_has_the_same_digest_and_no_clock_in_its_spec(digits_folder, tmp_path):
    trained(digits_folder, tmp_path / "a")
    trained(digits_folder, tmp_path / "b")
    first, second = (load_model(tmp_path / part / "model") for part in "ab")
    assert first.digest == second.digest
    assert "seconds" not in json.dumps(first.spec.as_dict())


def test_a_checkpoint_belongs_to_its_inputs(digits_folder, monkeypatch):
    small, validation = (load_subset(digits_folder / n) for n in ("small", "validation"))
    digests = {
        input_digest(params, variant, small, validation)
        for params, variant in [
            (TINY, VARIANT),
            (TINY, VARIANT._replace(seed=4)),
            (replace(TINY, train=replace(TINY.train, batch_size=7)), VARIANT),
            (replace(TINY, train=replace(TINY.train, threads=7)), VARIANT),
            (replace(TINY, models={"vit": ModelConfig("vit", {"depth": 1})}), VARIANT),
        ]
    }
    assert len(digests) == 5
    for decides in ("use_bf16", "parse_device"):
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(f"zoo.training.variants.{decides}", lambda *_, **__: "elsewhere")
            digests.add(input_digest(TINY, VARIANT, small, validation))
    assert len(digests) == 7


def test_a_final_loss_that_is_not_finite_says_so(digits_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "zoo.training.variants.evaluate", lambda *_: {"loss": math.nan, "accuracy": 0.1}
    )
    with pytest.raises(UserError, match="the loss is not finite after the last epoch"):
        trained(digits_folder, tmp_path)
    assert not (tmp_path / "model").exists()


def test_two_processes_do_not_train_the_same_variant(digits_folder, tmp_path):
    small, validation = (load_subset(digits_folder / n) for n in ("small", "validation"))
    own = tmp_path / "checkpoints" / input_digest(TINY, VARIANT, small, validation)
    own.parent.mkdir(parents=True)
    with FileLock(f"{own}.lock"), pytest.raises(UserError, match="vit-small-3 is being trained by"):
        trained(digits_folder, tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_look_at_the_lock_does_not_end_a_training_run(digits_folder, tmp_path):
    small, validation = (load_subset(digits_folder / n) for n in ("small", "validation"))
    lock = tmp_path / "checkpoints" / f"{input_digest(TINY, VARIANT, small, validation)}.lock"
    lock.parent.mkdir(parents=True)
    looked = FileLock(lock, thread_local=False)
    looked.acquire()
    threading.Timer(0.2, looked.release).start()
    trained(digits_folder, tmp_path)
    assert (tmp_path / "model").is_dir()


def test_the_lock_is_held_until_the_checkpoint_is_gone(digits_folder, tmp_path, monkeypatch):
    def removed(folder, kind):
        with pytest.raises(Timeout):
            FileLock(f"{folder}.lock", timeout=0).acquire()
        remove_folder(folder, kind)

    monkeypatch.setattr("zoo.training.variants.remove_folder", removed)
    trained(digits_folder, tmp_path)
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_heads": 7}, "^vit-small-3: cannot build vit at 16 px with .*num_heads"),
        ({"patch_size": True}, "^vit-small-3: (cannot build vit|vit does not take an image of 16)"),
        ({"patch_size": 64}, "^vit-small-3: (cannot build vit|vit does not take an image of 16)"),
        ({"global_pool": ""}, r"^vit-small-3: vit: expected an output \(1, classes\)"),
    ],
)
def test_a_variant_that_cannot_be_built_or_run_leaves_nothing(
    digits_folder, tmp_path, kwargs, message
):
    bad = replace(TINY, models={"vit": ModelConfig("vit", TINY_VIT | kwargs)})
    with pytest.raises(UserError, match=message):
        trained(digits_folder, tmp_path, params=bad)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_architecture_is_named_before_anything_is_read(digits_folder, tmp_path):
    with pytest.raises(UserError, match="unknown arch 'vitt'; did you mean 'vit'"):
        trained(digits_folder, tmp_path, variant=Variant("odd", "small", 0))


@pytest.mark.parametrize(("device", "named"), [("mps", "mps"), ("cpu", "cpu (")])
def test_the_environment_names_the_device_that_was_used(device, named):
    used = SimpleNamespace(device=torch.device(device), mixed_precision="no")
    assert environment(used)["device"].startswith(named)


def test_the_end_is_told_when_the_model_is_there(digits_folder, tmp_path, monkeypatch):
    told = []

    class Listener:
        def on_start(self, state):
            told.append("start")

        def on_epoch(self, row, steps):
            told.append("epoch")

        def on_end(self, ok):
            told.append((ok, (tmp_path / "model" / "spec.json").is_file()))

    def train_again():
        train_variant(
            TINY, VARIANT, subsets=digits_folder, folder=tmp_path / "model",
            checkpoints=tmp_path / "checkpoints", callbacks=lambda *_: [Listener()],
        )  # fmt: skip

    with monkeypatch.context() as patch:
        patch.setattr("zoo.training.variants.save_model", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_again()
    train_again()
    training = ["start", "epoch", "epoch"]
    assert told == [*training, (False, False), *training, (True, True)]


def _interrupted(*_):
    raise KeyboardInterrupt
