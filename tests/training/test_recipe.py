import math
from dataclasses import replace

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from zoo.config import TrainConfig
from zoo.models.build import build
from zoo.training.recipe import learning_rate_at, make_optimizer, warmup_steps

CONFIG = TrainConfig(epochs=4, batch_size=16, learning_rate=1.0)


def test_the_learning_rate_warms_up_and_falls_as_a_cosine():
    rates = [learning_rate_at(s, config=CONFIG, steps=10, warmup=2) for s in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert rates == [*rates[:2], *sorted(rates[2:], reverse=True)]
    constant = replace(CONFIG, schedule="constant")
    assert learning_rate_at(9, config=constant, steps=10, warmup=2) == 1.0


def test_the_learning_rate_is_that_of_timms_schedules():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    timms = CosineLRScheduler(optimizer, 40, warmup_t=10, warmup_prefix=True, t_in_epochs=False)
    config = replace(CONFIG, learning_rate=0.3)
    for step in range(50):
        # timm's first step has the rate 0: it warms up one step later.
        timms.step_update(step + 1 if step < 10 else step)
        rate = learning_rate_at(step, config=config, steps=50, warmup=10)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12), step


def test_warm_up_is_given_in_passes_or_in_steps():
    assert warmup_steps(replace(CONFIG, warmup_epochs=0.5), 10) == 5
    assert warmup_steps(replace(CONFIG, warmup_steps=7), 10) == 7


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_matrices_alone_are_decayed(optimizer):
    module = build("vit", classes=3, image_size=8, patch_size=4, embed_dim=16, depth=1, num_heads=2)
    made = make_optimizer(module, replace(CONFIG, optimizer=optimizer, weight_decay=0.05))
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    of = {name: decay[id(p)] for name, p in module.named_parameters()}
    assert {name for name, value in of.items() if value} == {
        "patch_embed.proj.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.0.attn.proj.weight",
        "blocks.0.mlp.fc1.weight",
        "blocks.0.mlp.fc2.weight",
        "head.weight",
    }
    assert set(of.values()) == {0.0, 0.05}


def test_a_step_of_adamw_is_the_formula():
    module = nn.Linear(2, 1, bias=False)
    before = module.weight.detach().clone()
    optimizer = make_optimizer(
        module, replace(CONFIG, optimizer="adamw", learning_rate=0.1, weight_decay=0.5)
    )
    module(torch.tensor([[1.0, -2.0]])).sum().backward()
    optimizer.step()
    # The first step of Adam is the gradient's sign; decay is decoupled from it.
    expected = before * (1 - 0.1 * 0.5) - 0.1 * torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(module.weight.detach(), expected)
