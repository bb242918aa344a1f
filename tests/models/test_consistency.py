"""An answer rests on the image alone, or it is said what else it depends on."""

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from zoo.models.consistency import CHANCE, OTHERS, depends_on, own_buffers
from zoo.models.files import describe_module

SIDE = 16


class Net(nn.Module):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.head, self.norm = nn.Linear(8, 2), nn.BatchNorm2d(8)
        self.register_buffer("mean", torch.zeros(8))

    def change(self, x):
        return self.norm(x)

    def forward(self, x):
        x = self.change(self.first(x).relu())
        return self.head(self.second(x).relu().mean((2, 3)))


def changed(change):
    return type("Changed", (Net,), {"change": lambda self, x: change(x)})


class Counting(Net):
    calls = 0

    def change(self, x):
        self.calls += 1
        return x * (1 + 0.1 * self.calls)


class MovingInPlace(Net):
    def change(self, x):
        self.mean.mul_(0.9).add_(0.1 * x.mean((0, 2, 3)))
        return x - self.mean.view(1, -1, 1, 1)


class Moving(Net):
    def change(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 2, 3))
        return x - self.mean.view(1, -1, 1, 1)


class NeverEval(Net):
    def eval(self):
        return self


class AlwaysTraining(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(True)


class PartInTraining(Net):
    def __init__(self):
        super().__init__()
        self.norm = AlwaysTraining(8)


class LargeLogits(Net):
    def change(self, x):
        return functional.batch_norm(x, None, None, training=True)

    def forward(self, x):
        return super().forward(x) + 1e4


def drop_branches(x):
    return x + x.sin() * torch.empty(len(x), 1, 1, 1).bernoulli_(0.95)


CASES = {
    "dropout": (changed(lambda x: functional.dropout(x, 0.1, training=True)), CHANCE),
    "noise": (changed(lambda x: x + 0.01 * torch.randn_like(x)), CHANCE),
    "NumPy's noise": (changed(lambda x: x * (1 + 0.05 * np.random.rand())), CHANCE),
    "a branch dropped for one image in twenty": (changed(drop_branches), CHANCE),
    "a counter": (Counting, CHANCE),
    "a mean that moves": (Moving, CHANCE),
    "a mean that moves in place": (MovingInPlace, CHANCE),
    "statistics of the batch": (
        changed(lambda x: functional.batch_norm(x, None, None, training=True)), OTHERS,
    ),
    "large logits": (LargeLogits, OTHERS),
    "eval() without effect": (NeverEval, OTHERS),
    "a part that stays in training": (PartInTraining, OTHERS),
    "the mean over images": (changed(lambda x: x - x.mean(0, keepdim=True)), OTHERS),
    "the image before": (changed(lambda x: x + 0.1 * x.roll(1, 0)), OTHERS),
    "random numbers as well": (changed(lambda x: x + torch.rand(1) * x.roll(1, 0)), CHANCE),
    "nothing": (Net, ""),
    "the same for all images": (changed(torch.ones_like), ""),
    "not a number": (changed(lambda x: x * torch.nan), ""),
    "infinite": (changed(lambda x: x + torch.inf), ""),
    "random numbers that are not used": (changed(lambda x: x + 0 * torch.rand_like(x)), ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_else_an_answer_depends_on_is_found_and_nothing_changes(case):
    make, expected = CASES[case]
    module = make()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    buffers, drawn = dict(module.named_buffers()), torch.get_rng_state()
    assert depends_on(module, describe_module(module, name="net", image_size=SIDE).spec) == expected
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert all(buffer is buffers[name] for name, buffer in module.named_buffers())
    assert module.training


class Autocast(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.module(x)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("test_vit", {"img_size": 32}),
        ("test_resnet", {}),
        ("test_efficientnet", {}),
        ("test_convnext", {}),
        ("test_mambaout", {}),
        ("test_byobnet", {}),
    ],
)
def test_no_precision_is_taken_for_chance_or_for_other_images(name, sizes):
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=3, **sizes)
    with torch.no_grad():  # so that a head of zeros answers too
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    spec = describe_module(module, name="net", image_size=32).spec
    assert [depends_on(net, spec) for net in (module, Autocast(module))] == ["", ""]
    for dtype in (torch.bfloat16, torch.float16):
        assert depends_on(module.to(dtype), spec) == ""


def test_two_parts_share_the_copy_of_a_buffer_that_they_share():
    one, other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    other.running_mean = shared = one.running_mean
    with own_buffers([one, nn.Sequential(one, other)]):
        assert one.running_mean is other.running_mean
        assert one.running_mean is not shared
        one(torch.randn(4, 3, 8, 8))
        assert one.running_mean.any()
    assert one.running_mean is other.running_mean is shared
    assert not shared.any()
