"""A network that learns from another one: the loss is the papers', and nothing of it stays."""

import dataclasses
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.training.test_variants import TINY, trained
from zoo.config import ModelConfig, Variant
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.models.build import build
from zoo.models.files import describe_module, load_model
from zoo.training.distillation import end_objective, make_objective, map_difference
from zoo.training.loop import train
from zoo.training.variants import input_digest, train_variant

# Not 4 channels: with them, torch's CPU kernel for gradients writes out of bounds.
NARROW = {"channels": [8, 12, 16, 20]}
VIT = {"patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2}
VIT |= {"pos_drop_rate": 0.0, "proj_drop_rate": 0.0, "attn_drop_rate": 0.0}
NAMES = [str(i) for i in range(10)]


def make(arch, kwargs, name, **known):
    torch.manual_seed(0)
    module = build(arch, classes=10, image_size=16, **kwargs)
    known = {"class_names": NAMES} | known
    return describe_module(module, name=name, image_size=16, arch=arch, kwargs=kwargs, **known)


TEACHER = partial(make, "resnet18", NARROW, "teacher", mean=[0.2] * 3, std=[0.5] * 3)


def asked(teacher, student):
    return make_objective(teacher, student.module, student.spec, torch.device("cpu"))


def batch():
    x = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return x, partial(functional.cross_entropy, target=torch.arange(6))


def seen_by(teacher, student, x):
    """The input of a student, as pixels of 0..1, and these as the teacher wants them."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (student.spec.mean, student.spec.std))
    pixels = x * std + mean
    mean, std = (torch.tensor(v)[:, None, None] for v in (teacher.spec.mean, teacher.spec.std))
    return (pixels - mean) / std


def test_half_of_the_loss_is_the_teachers_answer_to_the_same_image():
    teacher = TEACHER()
    student = make("vit-distilled", VIT, "student", mean=[0.4] * 3, std=[0.3] * 3)
    (x, criterion), objective = batch(), asked(teacher, student)
    logits, loss = objective(student.module.train(), x, criterion)
    tokens = student.module.forward_features(x)
    answers = teacher.module(seen_by(teacher, student, x)).argmax(dim=1)
    assert len(answers.unique()) > 1
    distilled = functional.cross_entropy(student.module.head_dist(tokens[:, 1]), answers)
    by_class = functional.cross_entropy(student.module.head(tokens[:, 0]), torch.arange(6))
    assert logits.shape == (6, 10)
    torch.testing.assert_close(loss, (by_class + distilled) / 2)


def test_features_are_compared_stage_by_stage_with_evenly_chosen_blocks():
    teacher, student = TEACHER(), make("vit", VIT, "student", mean=[0.4] * 3, std=[0.3] * 3)
    (x, criterion), objective = batch(), asked(teacher, student)
    logits, loss = objective(student.module.train(), x, criterion)
    seen, tokens = [], []
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        part = teacher.module.get_submodule(stage)
        part.register_forward_hook(lambda part, args, output: seen.append(output))
    for block in student.module.blocks:
        block.register_forward_hook(lambda part, args, output: tokens.append(output[:, 1:]))
    teacher.module(seen_by(teacher, student, x))
    torch.testing.assert_close(student.module(x), logits)
    expected = functional.cross_entropy(logits, torch.arange(6))
    # Four stages for three blocks: 0, 0.67, 1.33 and 2 are rounded.
    for stage, block, guide in zip(seen, (0, 1, 1, 2), student.module.guides, strict=True):
        ours = tokens[block] @ guide.weight[:, :, 0, 0].T + guide.bias
        ours = ours.transpose(1, 2).unflatten(2, (4, 4))
        side = max(4, stage.shape[-1])
        ours, theirs = (
            functional.interpolate(m, (side, side), mode="bilinear") for m in (ours, stage)
        )
        expected = expected + 2.5 * (ours - theirs).square().mean()
    assert [stage.shape[1:] for stage in seen] == [
        (8, 16, 16), (12, 8, 8), (16, 4, 4), (20, 2, 2)
    ]  # fmt: skip
    torch.testing.assert_close(loss, expected)


def test_the_coarser_map_is_resized():
    coarse = torch.tensor([[1.0, 3.0]]).expand(1, 1, 2, 2)
    fine = torch.zeros(1, 1, 2, 4)
    # Between two places' middles the values are 1, 1.5, 2.5 and 3.
    expected = np.mean(np.square([1, 1.5, 2.5, 3]))
    assert map_difference(coarse, fine).item() == pytest.approx(expected)
    assert map_difference(fine, coarse).item() == pytest.approx(expected)


@pytest.mark.parametrize("arch", ["vit", "vit-distilled"])
def test_nothing_of_the_teacher_stays_in_the_network_and_it_is_not_changed(arch):
    teacher, student = TEACHER(), make(arch, VIT, "student")
    before = {name: t.clone() for name, t in teacher.module.state_dict().items()}
    names = list(student.module.state_dict())
    (x, criterion), objective = batch(), asked(teacher, student)
    module = student.module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        _, loss = objective(module, x, criterion)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    end_objective(module)
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(t, before[name]) for name, t in teacher.module.state_dict().items())
    assert all(p.grad is None for p in teacher.module.parameters())
    assert list(module.state_dict()) == names
    assert module(x).shape == (6, 10)


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        ({}, ("resnet18", NARROW), "teacher cannot teach s: expected a ViT as the network"),
        ({"class_names": NAMES[::-1]}, ("vit-distilled", VIT), "a teacher of the same classes"),
    ],
)
def test_a_teacher_that_does_not_suit_is_named(teacher, student, message):
    with pytest.raises(UserError, match=message):
        asked(TEACHER(**teacher), make(*student, "s"))


def test_a_vit_has_no_stages_and_images_are_of_one_size():
    with pytest.raises(UserError, match="expected a ResNet as the teacher of features, got vit"):
        asked(make("vit", VIT, "v"), make("vit", VIT, "s"))
    teacher = TEACHER()
    large = dataclasses.replace(teacher, spec=dataclasses.replace(teacher.spec, image_size=32))
    with pytest.raises(UserError, match="sees images of 16 px, got 32 px"):
        asked(large, make("vit", VIT, "s"))


MODELS = {
    "cnn": ModelConfig("resnet18", NARROW),
    "token": ModelConfig("vit-distilled", VIT, teacher="cnn/model"),
    "guided": ModelConfig("vit", VIT, teacher="cnn/model"),
    "tuned": ModelConfig("vit", VIT, start="guided/model"),
}
PARAMS = replace(TINY, models=MODELS, study=replace(TINY.study, models=["cnn"]))


def test_ancestors_are_in_the_lineage_and_in_what_a_checkpoint_belongs_to(
    digits_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    models = {}
    for name in MODELS:
        trained(digits_folder, tmp_path / name, PARAMS, Variant(name, "small", 3))
        models[name] = load_model(tmp_path / name / "model")
    digest = models["cnn"].digest
    assert models["cnn"].spec.lineage == {}
    for name in ("token", "guided"):
        assert models[name].spec.lineage == {"teacher": "cnn/model", "teacher_sha256": digest}
        assert models[name].spec.training["teacher"] == "cnn/model"
    known = {"start": "guided/model", "start_sha256": models["guided"].digest}
    assert models["tuned"].spec.lineage == known
    start, tuned = models["guided"].spec, models["tuned"].spec
    assert (tuned.mean, tuned.std) == (start.mean, start.std)
    small, validation = (load_subset(digits_folder / n) for n in ("small", "validation"))
    args = PARAMS, Variant("guided", "small", 3), small, validation
    assert len({input_digest(*args, {"teacher": models[n]}) for n in ("cnn", "token")}) == 2


class KilledError(Exception):
    pass


def test_a_guided_run_that_was_killed_ends_with_the_same_weights(
    digits_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zoo.training.variants.train", partial(train, checkpoint_seconds=0))
    trained(digits_folder, tmp_path / "cnn", PARAMS, Variant("cnn", "small", 3))
    variant = Variant("guided", "small", 3)
    trained(digits_folder, tmp_path / "whole", PARAMS, variant)

    def kill(done, total, unit):
        if done > total / 2:
            raise KilledError

    args = {"subsets": digits_folder, "folder": tmp_path / "m", "checkpoints": tmp_path / "c"}
    with pytest.raises(KilledError):
        train_variant(PARAMS, variant, **args, on_progress=kill)
    train_variant(PARAMS, variant, **args)
    whole, resumed = (load_model(tmp_path / name) for name in ("whole/model", "m"))
    assert whole.digest == resumed.digest
