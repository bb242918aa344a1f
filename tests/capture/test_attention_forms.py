"""Attention of the blocks that timm's ViTs can be built of, fused or not."""

import pytest
import torch
from timm.models import vision_transformer
from torch import nn

from tests.capture.test_attention import SMALL, VIT, apply_weights, capture, example, timm_model
from zoo.capture import trace

FORMS = {
    "layer scale": {"init_values": 0.5},
    "post-norm": {"block_fn": vision_transformer.ResPostBlock},
    "attention twice, side by side": {"block_fn": vision_transformer.ParallelThingsBlock},
    "no position embedding": {"pos_embed": "none"},
    "norm of the heads' outputs": {"scale_attn_norm": True},
    "pooled by attention": {"global_pool": "map", "class_token": False},
}


def model_of(fused, **kwargs):
    torch.manual_seed(0)
    model = timm_model(VIT, **SMALL | kwargs).eval()
    for name, parameter in model.named_parameters():
        if "qkv.weight" in name or "in_proj.weight" in name:
            nn.init.normal_(parameter, std=0.4)
    for part in model.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = fused
    return model


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_the_output_follows_from_the_weights_and_does_not_change(form, fused):
    model, images = model_of(fused, **FORMS[form]), example("cls")
    with torch.inference_mode():
        before = model(images)
    weights, during = capture(model, images)
    assert torch.equal(before, during)
    layers = [name for name in weights if "attn_pool" not in name]
    assert len(layers) == (4 if "twice" in form else 2)
    for layer in layers:
        value, part, seen = weights[layer], model.get_submodule(layer), {}
        part.register_forward_hook(lambda _, args, y, seen=seen: seen.update(x=args[0], y=y))
        with torch.inference_mode():
            model(images)
            expected = apply_weights(part, value, seen["x"])
        torch.testing.assert_close(seen["y"], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(value.sum(-1), torch.ones_like(value[..., 0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fused", [True, False])
def test_a_block_that_attends_beside_its_mlp_gives_its_weights(fused):
    model = model_of(fused, block_fn=vision_transformer.ParallelScalingBlock)
    images = example("cls")
    with torch.inference_mode():
        before = model(images)
    weights, during = capture(model, images)
    assert tuple(weights) == ("blocks.0", "blocks.1")
    assert torch.equal(before, during)
    block, seen = model.blocks[1], {}
    out = block.out_proj if block.out_proj is not None else block.attn_out_proj
    block.in_proj.register_forward_hook(lambda _, args, y: seen.update(split=y))
    out.register_forward_hook(lambda _, args, y: seen.update(mixed=args[0][..., :16]))
    with torch.inference_mode():
        model(images)
    value = seen["split"].split(block.in_split, dim=-1)[3].unflatten(-1, (2, 8)).transpose(1, 2)
    mixed = (weights["blocks.1"] @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(seen["mixed"], mixed, atol=1e-5, rtol=0)
    assert weights["blocks.1"].max() > 3 / 17


def test_a_difference_of_softmaxes_beside_an_mlp_reports_no_weights():
    model = model_of(True, block_fn=vision_transformer.DiffParallelScalingBlock)
    assert trace(model, example("cls", 1)).attention == ()
