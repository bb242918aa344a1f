"""How often a pass waits for the device: once a batch, however many layers there are.

On a CPU nothing waits, but the operation that would is the same: a number that becomes Python's.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.analyses import load_analysis
from zoo.config import Settings
from zoo.models.build import build
from zoo.models.files import describe_module
from zoo.study.fingerprint import SETTINGS, _Grams
from zoo.study.one_pass import run_pass
from zoo.study.prepare import prepare_study


class Waits(TorchDispatchMode):
    """Counts numbers that are read from a tensor."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def model(depth, name):
    torch.manual_seed(0)
    size = {"patch_size": 4, "embed_dim": 16, "num_heads": 2}
    module = build("vit", classes=10, image_size=16, depth=depth, **size)
    return describe_module(module, name=name, image_size=16)


def waits(start, depth, images, labels, settings):
    models = [model(depth, "a"), model(depth, "b")]
    study = prepare_study(models, images, labels, (), (), settings, "cpu")
    accumulator = start(study)
    with Waits() as seen:
        run_pass(study, [accumulator])
    return seen.count


STARTS = {
    "cka": (load_analysis("cka").start, Settings(batch_size=20, references=False)),
    "fingerprint": (lambda study: _Grams(study.networks[0]), SETTINGS),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_pass_does_not_wait_for_each_layer(digit_images, name):
    start, settings = STARTS[name]
    images, labels = digit_images
    few, many = (waits(start, depth, images[:40], labels[:40], settings) for depth in (2, 8))
    assert many == few
