"""Small networks with residual blocks of known parts, and what is seen in them."""

import torch
from torch import nn
from torch.nn import functional

from zoo.capture import observe, trace
from zoo.capture.branches import find_branches
from zoo.models.build import build

SIDE = 16


class Plain(nn.Module):
    """A block with weights and no residual sum."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x).relu())


class Residual(nn.Module):
    """A residual block whose activation is a function and whose sum is made in place."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)
        self.project = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def branch(self, x):
        return self.norm(self.second(self.first(x).relu()))

    def skip(self, x):
        return x if self.project is None else self.project(x)

    def forward(self, x):
        f = self.norm(self.second(self.act(self.first(x))))
        f += self.skip(x)
        return functional.relu(f, inplace=True)


def conv_net(*blocks):
    torch.manual_seed(0)
    stem = nn.Conv2d(3, 4, 3, padding=1)
    return nn.Sequential(stem, nn.Sequential(*(block() for block in blocks))).eval()


def residual_net():
    return conv_net(lambda: Residual(4, 4), lambda: Residual(4, 8))


def tiny(arch, **kwargs):
    torch.manual_seed(0)
    sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2} if "vit" in arch else kwargs
    return build(arch, classes=10, image_size=SIDE, **(sizes | kwargs)).eval()


def image(n=1):
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def branches_of(module):
    return find_branches(module, trace(module, image()), image())


def seen(module, *hook_points, n=2):
    values = {}
    with (
        torch.inference_mode(),
        observe(
            module, hook_points, lambda hook_point, v: values.setdefault(hook_point, v.clone())
        ),
    ):
        module(image(n))
    return [values[hook_point] for hook_point in hook_points]
