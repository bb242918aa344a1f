import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.conftest import TINY_VIT
from zoo.errors import UserError
from zoo.models.build import build
from zoo.models.files import describe_module
from zoo.models.start import start_from

ARCHITECTURES = {
    "vit": TINY_VIT,
    "vit-distilled": TINY_VIT,
    "cct": TINY_VIT,
    "resnet18": {"channels": [4, 8, 12, 16]},
    "mixer": {"embed_dim": 16, "num_blocks": 2},
}


def make(arch="vit", classes=10, image_size=16, **kwargs):
    return build(arch, classes=classes, image_size=image_size, **(ARCHITECTURES[arch] | kwargs))


def trained(arch="vit", **kwargs):
    return describe_module(make(arch, **kwargs), name="s", image_size=16, arch=arch, kwargs=kwargs)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_all_weights_but_the_classifiers_are_those_of_the_start(arch):
    start, module = trained(arch), make(arch, classes=3)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    start_from(module, start)
    given = start.module.state_dict()
    for name, tensor in module.state_dict().items():
        head = name.startswith(("head.", "head_dist.", "fc."))
        assert torch.equal(tensor, before[name] if head else given[name])
    assert module.eval()(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


def test_positions_are_resampled_to_a_finer_grid():
    start, module = trained(), make(image_size=32)
    start_from(module, start)
    assert torch.equal(module.pos_embed[:, :1], start.module.pos_embed[:, :1])
    coarse = start.module.pos_embed[:, 1:].reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    fine = functional.interpolate(coarse, (8, 8), mode="bicubic", antialias=True)
    expected = fine.permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(module.pos_embed[:, 1:], expected)


def test_a_start_is_left_as_it_was():
    start, module = trained(), make()
    before = {name: t.clone() for name, t in start.module.state_dict().items()}
    start_from(module, start)
    with torch.no_grad():
        module.pos_embed += 1
    assert all(torch.equal(t, before[n]) for n, t in start.module.state_dict().items())


def test_weights_that_do_not_fit_are_named():
    message = "cannot start from s: .* differ, such as .*; give .* the same architecture"
    with pytest.raises(UserError, match=message):
        start_from(make(depth=3), trained())
    with pytest.raises(UserError, match=message):
        start_from(make(embed_dim=32), trained())
    with pytest.raises(UserError, match=message):
        start_from(make("resnet18"), trained())


def test_a_network_without_a_known_classifier_is_refused():
    start = describe_module(nn.Linear(3, 2), name="s", image_size=8)
    with pytest.raises(
        UserError, match=r"cannot start from s: .* whose classifier can be replaced"
    ):
        start_from(nn.Linear(3, 2), dataclasses.replace(start))
