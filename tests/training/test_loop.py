import gc
import math
import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from timm.layers import DropPath

from tests.chaos_steps import end
from tests.conftest import TINY_VIT
from zoo.config import TrainConfig
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.models.build import build
from zoo.models.spec import ModelSpec
from zoo.training.checkpoint import CHECKPOINT
from zoo.training.loop import evaluate, train

CONFIG = TrainConfig(
    epochs=4, batch_size=16, learning_rate=0.003, crop_padding=1, precision="float32"
)
FULL_RECIPE = {
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "warmup_epochs": 1.0,
    "flip": True,
    "augment": "rand-m9-mstd0.5-inc1",
    "random_erasing": 0.5,
    "mixup": 0.8,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
    "ema": 0.9,
    "clip_norm": 1.0,
    "keep": "best",
}


class Recorder:
    """A listener that keeps what it was told."""

    def __init__(self):
        self.rows, self.steps, self.state = [], [], None

    def on_start(self, state):
        self.state = state
        state.setdefault("run_id", "abc")

    def on_epoch(self, row, steps):
        self.rows.append(row)
        self.steps += steps


def run(make_model, digits_folder, config=CONFIG, seed=0, drop_path=0.0, **options):
    model = make_model("vit", seed=seed)
    for block in model.module.blocks:
        block.drop_path1 = DropPath(drop_path)
    small = load_subset(digits_folder / "small")
    validation = load_subset(digits_folder / "validation")
    options = {"steps": config.steps_on("small", len(small)), "seed": seed} | options
    return train(model.module, model.spec, small, validation, config, **options)


def weights(trained):
    return torch.cat([p.flatten() for p in trained.module.state_dict().values()])


def untimed(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_a_network_learns_forty_digits_by_heart(digits_folder):
    torch.manual_seed(0)
    size = {"embed_dim": 64, "depth": 2, "num_heads": 4}
    dropout = {"pos_drop_rate": 0.0, "proj_drop_rate": 0.0, "attn_drop_rate": 0.0}
    module = build("vit", classes=10, image_size=16, **size, **dropout)
    small = load_subset(digits_folder / "small")
    spec = ModelSpec("v", "vit", 16, small.info.class_names, small.info.mean, small.info.std)
    config = replace(CONFIG, crop_padding=0)
    trained = train(module, spec, small, small, config, steps=120, seed=0)
    assert evaluate(trained.module, spec, small)["accuracy"] > 0.9
    assert trained.epochs[-1]["train/loss"] < trained.epochs[0]["train/loss"] / 2


def test_what_is_logged_of_training_is_of_all_its_images(digits_folder):
    """Where the weights hardly move, it is what the network says of them; the last batch has 8."""
    torch.manual_seed(0)
    dropout = {"pos_drop_rate": 0.0, "proj_drop_rate": 0.0, "attn_drop_rate": 0.0}
    module = build("vit", classes=10, image_size=16, **TINY_VIT, **dropout)
    small = load_subset(digits_folder / "small")
    spec = ModelSpec("v", "vit", 16, small.info.class_names, small.info.mean, small.info.std)
    config = replace(CONFIG, crop_padding=0, optimizer="sgd", learning_rate=1e-9)
    (row,) = train(module, spec, small, small, config, steps=3, seed=0).epochs
    rated = evaluate(module, spec, small)
    assert row["train/accuracy"] == row["validation/accuracy"] == rated["accuracy"] > 0
    assert row["train/loss"] == pytest.approx(rated["loss"], rel=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_validation_is_in_float32_whatever_the_precision_of_training(
    make_model, digits_folder, precision
):
    trained = run(make_model, digits_folder, replace(CONFIG, epochs=1, precision=precision))
    spec, validation = make_model("vit").spec, load_subset(digits_folder / "validation")
    alone = evaluate(trained.module, spec, validation)
    assert alone == {key: trained.epochs[-1][f"validation/{key}"] for key in alone}


def test_no_tensor_is_kept_of_a_step(make_model, digits_folder):
    """Thousands of them between the large ones of a step made a process grow by MB a step."""
    alive = []

    def count(done, total, what):
        if done in (3, total):
            alive.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))

    config = replace(CONFIG, epochs=6, validate_steps=100)
    run(make_model, digits_folder, config, on_progress=count)
    early, late = alive
    assert late == early


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(
    make_model, digits_folder, precision
):
    config = replace(CONFIG, precision=precision, epochs=2)
    first = run(make_model, digits_folder, config)
    torch.rand(7)  # whatever ran in between must not matter
    assert torch.equal(weights(first), weights(run(make_model, digits_folder, config)))
    assert first.environment["precision"] == precision
    other = run(make_model, digits_folder, config, seed=1)
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd"}, FULL_RECIPE])
def test_a_run_that_was_killed_ends_with_the_same_weights(
    make_model, digits_folder, tmp_path, changes
):
    config = replace(CONFIG, **changes)
    whole = run(make_model, digits_folder, config, drop_path=0.2)

    class Kill(Recorder):
        def on_epoch(self, row, steps):
            super().on_epoch(row, steps)
            if len(self.rows) == 3:
                os.kill(os.getpid(), signal.SIGKILL)

    options = {"checkpoints": tmp_path, "checkpoint_seconds": 0.0, "drop_path": 0.2}
    child = os.fork()
    if not child:
        end(lambda: run(make_model, digits_folder, config, callbacks=[Kill()], **options))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    resumed = Recorder()
    again = run(make_model, digits_folder, config, callbacks=[resumed], **options)
    # The third epoch was not saved: it is done again, with its number.
    assert [row["epoch"] for row in resumed.rows] == [3, 4]
    assert resumed.state["run_id"] == "abc"
    assert torch.equal(weights(again), weights(whole))
    assert untimed(again.epochs) == untimed(whole.epochs)
    assert again.steps == whole.steps


def test_a_compiled_network_learns_as_it_does_otherwise(make_model, digits_folder, monkeypatch):
    """The last batch is smaller. On a GPU, tests/test_gpu.py compiles to kernels."""
    # Kernels take minutes to make on a CPU; this backend calls torch's own.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    small = load_subset(digits_folder / "small")
    curves, counted = [], torch._dynamo.utils.counters["stats"]
    counted.clear()
    for compiled in (False, True):
        assert not counted["unique_graphs"]
        model = make_model("resnet18")
        config = replace(CONFIG, optimizer="sgd", crop_padding=0, ema=0.9, compile=compiled)
        trained = train(model.module, model.spec, small, small, config, steps=6, seed=0)
        assert type(trained.module) is type(model.module)
        curves.append([row["train/step_loss"] for row in trained.steps])
        # Those of a model of the zoo: no name of a wrapper is written to its files.
        assert [*trained.module.state_dict()] == [*make_model("resnet18").module.state_dict()]
    assert counted["unique_graphs"] == 2  # of a batch of 16 and one of 8; validation is not
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


def test_as_many_steps_are_made_as_asked_for_and_validated_as_rarely(make_model, digits_folder):
    config = replace(CONFIG, epochs=None, steps=8, validate_steps=4)
    recorder = Recorder()
    run(make_model, digits_folder, config, callbacks=[recorder])
    # 40 images make 3 steps a pass, of which the last pass is cut short.
    assert [(row["epoch"], row["step"]) for row in recorder.rows] == [(2, 6), (3, 8)]
    assert [row["step"] for row in recorder.steps] == list(range(1, 9))
    whole = run(make_model, digits_folder, replace(CONFIG, epochs=2))
    begun = run(make_model, digits_folder, replace(CONFIG, epochs=None, steps=6, validate_steps=4))
    # Cosine ends with the steps, so equal steps are equal runs, however they were asked for.
    assert torch.equal(weights(begun), weights(whole))


@pytest.mark.parametrize(
    ("accuracies", "losses"),
    [([0.2, 0.5, 0.5, 0.1], [1.0] * 4), ([0.2, 0.5, 0.5, 0.5], [1.0, 0.8, 0.9, 0.8])],
)
def test_the_best_weights_by_validation_are_kept(
    make_model, digits_folder, monkeypatch, accuracies, losses
):
    """Of epochs that are as accurate, that of the lower loss; of equal ones the first."""
    rated = iter(zip(accuracies, losses, strict=True))
    seen = []

    def judge(module, spec, subset):
        seen.append(torch.cat([p.detach().flatten() for p in module.state_dict().values()]))
        accuracy, loss = next(rated)
        return {"loss": loss, "accuracy": accuracy}

    monkeypatch.setattr("zoo.training.loop.evaluate", judge)
    trained = run(make_model, digits_folder, replace(CONFIG, keep="best"))
    assert torch.equal(weights(trained), seen[1])
    assert not torch.equal(seen[1], seen[3])


def test_the_moving_average_is_what_is_kept(make_model, digits_folder):
    config = replace(CONFIG, schedule="constant", epochs=None, steps=1)
    first, *later = [
        weights(run(make_model, digits_folder, replace(config, steps=n))) for n in (1, 2, 3)
    ]
    averaged = run(make_model, digits_folder, replace(config, steps=3, ema=0.999))
    # timm: the first step's weights, then 1 - n ** (-2 / 3) of the old ones at step n.
    expected = first
    for n, new in enumerate(later, 2):
        old = 1 - n ** (-2 / 3)
        expected = old * expected + (1 - old) * new
    torch.testing.assert_close(weights(averaged), expected)


def test_a_damaged_checkpoint_is_named(make_model, digits_folder, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is damaged .* remove it"):
        run(make_model, digits_folder, checkpoints=tmp_path)


def test_metrics_come_for_every_step_and_epoch(make_model, digits_folder):
    recorder, progress = Recorder(), []
    run(make_model, digits_folder, callbacks=[recorder], on_progress=lambda *a: progress.append(a))
    assert [row["step"] for row in recorder.steps] == list(range(1, 13))
    assert [row["step"] for row in recorder.rows] == [3, 6, 9, 12]
    assert progress[-1] == (12, 12, "steps")
    by_epoch = np.array([s["train/step_loss"] for s in recorder.steps]).reshape(4, 3)
    sizes = np.array([16, 16, 8])
    expected = (by_epoch * sizes).sum(axis=1) / 40
    assert [r["train/loss"] for r in recorder.rows] == pytest.approx(expected, rel=1e-5)


def test_a_diverged_run_says_so(make_model, digits_folder):
    config = replace(CONFIG, learning_rate=1000.0, optimizer="sgd")
    with pytest.raises(UserError, match="the loss is not finite in epoch"):
        run(make_model, digits_folder, config)


def test_a_validation_loss_that_is_not_finite_says_so(make_model, digits_folder, monkeypatch):
    monkeypatch.setattr(
        "zoo.training.loop.evaluate", lambda *_: {"loss": math.inf, "accuracy": 0.1}
    )
    with pytest.raises(UserError, match="the loss is not finite in epoch 1"):
        run(make_model, digits_folder)


def test_evaluation_is_the_definition_and_restores_the_mode(make_model, digits_folder):
    model = make_model("vit")
    test = load_subset(digits_folder / "test")
    model.module.train()
    rated = evaluate(model.module, model.spec, test)
    assert model.module.training
    logits = model(np.array(test.images)).double()
    labels = torch.tensor(np.array(test.labels))
    loss = -logits.log_softmax(1)[range(len(labels)), labels].mean()
    assert rated["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert rated["accuracy"] == (logits.argmax(1) == labels).double().mean().item()


def test_what_a_network_raises_in_training_alone_is_one_line(make_model, digits_folder):
    config = replace(CONFIG, batch_size=13)  # of 40 images, the last batch has one
    model = make_model("resnet18", image_size=16)
    model.module.maxpool = torch.nn.MaxPool2d(2)
    small = load_subset(digits_folder / "small")
    with pytest.raises(
        UserError, match=r"cannot be trained on 1 images of 16 px .*more than 1 val"
    ):
        train(model.module, model.spec, small, small, config, steps=4, seed=0)


def test_a_network_that_calls_view_is_trained(make_model, digits_folder):
    """It takes what lies in memory in the usual order alone."""

    class Viewing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = torch.nn.Conv2d(3, 4, 3, 4, 1), torch.nn.Linear(64, 10)

        def forward(self, x):
            return self.head(self.stem(x).view(len(x), -1))

    small = load_subset(digits_folder / "small")
    spec = make_model("vit", image_size=16).spec
    trained = train(Viewing(), spec, small, small, CONFIG, steps=4, seed=0)
    assert math.isfinite(evaluate(trained.module, spec, small)["loss"])
