"""Captured weights are those that the network used, and capturing changes nothing."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

from zoo.capture import HookPoint, observe, trace
from zoo.capture.attention import (
    multihead_weights,
    on_multihead_outputs,
    record_attention,
)
from zoo.models.build import build as build_arch

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
SWIN = {"img_size": 32, "patch_size": 4, "embed_dim": 16, "depths": (2, 2), "window_size": 4}
SWIN["num_heads"] = (2, 4)
VIT = "vit_small_patch16_224"


def timm_model(name: str, **kwargs) -> nn.Module:
    return timm.create_model(name, num_classes=3, **kwargs)


def torchvision_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16
    )


def zoo_vit(**changes) -> nn.Module:
    sizes = {name: size for name, size in SMALL.items() if name != "img_size"}
    return build_arch("vit", classes=3, image_size=SMALL["img_size"], **sizes, **changes)


MODELS = {
    "cls": lambda: timm_model(VIT, **SMALL),
    "gap": lambda: timm_model(VIT, **SMALL, class_token=False, global_pool="avg"),
    "registers": lambda: timm_model(VIT, **SMALL, reg_tokens=3),
    "distilled": lambda: timm_model("deit_tiny_distilled_patch16_224", **SMALL),
    "qk_norm": lambda: timm_model(VIT, **SMALL, qk_norm=True),
    "eva": lambda: timm_model("eva02_tiny_patch14_224", **SMALL),
    "beit": lambda: timm_model("beit_base_patch16_224", **SMALL),
    "swin": lambda: timm_model("swin_tiny_patch4_window7_224", **SWIN),
    "swinv2": lambda: timm_model("swinv2_tiny_window8_256", **SWIN),
    "torchvision": torchvision_vit,
    "local": lambda: zoo_vit(attention="local"),
    "cct": lambda: zoo_vit(stem="tokenizer", global_pool="sequence"),
}
# Swin v2 has no fused path, and nn.MultiheadAttention chooses its own.
CASES = [(name, fused) for name in MODELS for fused in (True, False)]
CASES = [c for c in CASES if c not in {("swinv2", True), ("torchvision", False)}]


def build(name: str, fused: bool = True) -> nn.Module:
    """A model whose attention is far from uniform, so that wrong weights show."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter_name, parameter in model.named_parameters():
        if any(
            part in parameter_name for part in ("qkv.weight", "q_proj.w", "k_proj.w", "in_proj_w")
        ):
            parameter.data.normal_(std=0.4)
    for part in model.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = fused
    return model


def example(name: str, count: int = 3) -> torch.Tensor:
    side = 32 if name.startswith("swin") else 16
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def capture(model: nn.Module, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Weights of every attention layer, and the model's output beside."""
    weights: dict[str, torch.Tensor] = {}
    layers = trace(model, images[:1]).attention
    hook_points = [HookPoint(layer, "attention") for layer in layers]
    with (
        torch.inference_mode(),
        observe(model, hook_points, lambda t, w: weights.update({t.layer: w})),
    ):
        output = model(images)
    assert tuple(weights) == layers
    return weights, output


def apply_weights(module: nn.Module, weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What an attention module gives for its weights and its input, by its own parameters."""
    heads = weights.shape[1]
    if isinstance(module, nn.MultiheadAttention):
        value = functional.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, -1)[2]
    elif getattr(module, "v_proj", None) is not None:
        value = module.v_proj(x)
    else:
        bias = module.qkv.bias
        if getattr(module, "v_bias", None) is not None:
            zeros = torch.zeros_like(module.v_bias)
            bias = torch.cat([zeros, zeros, module.v_bias])
        value = functional.linear(x, module.qkv.weight, bias).chunk(3, -1)[2]
    mixed = weights @ value.unflatten(-1, (heads, -1)).transpose(1, 2)
    mixed = mixed.transpose(1, 2).flatten(2)
    if isinstance(module, nn.MultiheadAttention):
        return module.out_proj(mixed)
    if isinstance(getattr(module, "norm", None), nn.Module):
        mixed = module.norm(mixed)
    return module.proj(mixed)


@pytest.mark.parametrize(("name", "fused"), CASES)
def test_weights_are_distributions_over_keys(name, fused):
    model, images = build(name, fused), example(name)
    weights, _ = capture(model, images)
    layers = trace(model, images[:1])
    assert len(weights) == (4 if name.startswith("swin") else 2)
    for layer, value in weights.items():
        windows, heads, queries, keys = layers[layer].attention
        assert value.shape == (len(images) * windows, heads, queries, keys)
        assert value.dtype == torch.float32
        assert value.min() >= 0
        torch.testing.assert_close(value.sum(-1), torch.ones_like(value[..., 0]), atol=1e-5, rtol=0)
        assert value.max() > 3 / keys  # far from uniform: else the test could hardly fail


@pytest.mark.parametrize(("name", "fused"), CASES)
def test_the_attention_modules_output_follows_from_the_captured_weights(name, fused):
    model, images = build(name, fused), example(name)
    weights, _ = capture(model, images)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for layer in weights:
        model.get_submodule(layer).register_forward_hook(
            lambda part, args, output, layer=layer: seen.update({layer: (args[0], output)})
        )
    with torch.inference_mode():
        model(images)
        for layer, value in weights.items():
            x, output = seen[layer]
            output = output[0] if isinstance(output, tuple) else output
            expected = apply_weights(model.get_submodule(layer), value, x)
            torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)
            # The same with another head order must not fit, or the check is blind.
            wrong = apply_weights(model.get_submodule(layer), value.flip(1), x)
            assert (output - wrong).abs().max() > 1e-3


@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("swinv2", "torchvision")])
def test_fused_and_unfused_kernels_give_the_same_weights(name):
    images = example(name)
    fused, unfused = (capture(build(name, way), images)[0] for way in (True, False))
    for layer, value in fused.items():
        torch.testing.assert_close(value, unfused[layer], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "fused"), CASES)
def test_capturing_changes_no_bit_of_the_output(name, fused):
    model, images = build(name, fused), example(name)
    with torch.inference_mode():
        before = model(images)
    _, during = capture(model, images)
    with torch.inference_mode():
        after = model(images)
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Kernel(nn.Module):
    """Calls the fused kernel with values that make its output the weights themselves."""

    def __init__(self, **arguments) -> None:
        super().__init__()
        self.arguments = arguments

    def forward(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        unit = torch.eye(k.shape[-2]).expand(*k.shape[:-1], k.shape[-2])
        return functional.scaled_dot_product_attention(q, k, unit, **self.arguments)


NUMBERS = torch.Generator().manual_seed(2)
MASK = torch.randn(5, 5, generator=NUMBERS)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"scale": 0.7},
        {"is_causal": True},
        {"attn_mask": MASK},
        {"attn_mask": (MASK > 0) | torch.eye(5, dtype=torch.bool)},
        {"enable_gqa": True},
    ],
    ids=["plain", "scale", "causal", "added mask", "boolean mask", "grouped queries"],
)
def test_every_argument_of_the_fused_kernel_is_followed(arguments):
    q = torch.randn(2, 4, 5, 3, generator=NUMBERS)
    k = torch.randn(2, 2 if "enable_gqa" in arguments else 4, 5, 3, generator=NUMBERS)
    kernel, seen = Kernel(**arguments), []
    with record_attention(kernel, seen.append):
        output = kernel(q, k)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], output, atol=1e-6, rtol=0)


class InPlace(nn.Module):
    """Zeroes its weights after use, as a module that saves memory may."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        weights = logits.softmax(-1)
        weights.zero_()
        return weights


def test_later_in_place_operations_do_not_reach_the_captured_weights():
    module, seen = InPlace(), []
    with record_attention(module, seen.append):
        module(torch.zeros(1, 2, 4, 4))
    assert torch.equal(seen[0], torch.full((1, 2, 4, 4), 0.25))


@pytest.mark.parametrize("fused", [True, False])
def test_a_difference_of_two_softmaxes_reports_no_weights(fused):
    torch.manual_seed(0)
    model = timm_model(VIT, **SMALL, attn_layer="diff").eval()
    for part in model.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = fused
    assert trace(model, example("cls", 1)).attention == ()


def test_a_softmax_over_something_else_than_keys_is_no_attention():
    class ChannelAttention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.softmax(dim=1) + x.flatten(1).softmax(dim=-1).view_as(x)

    seen: list[torch.Tensor] = []
    with record_attention(module := ChannelAttention(), seen.append):
        module(torch.randn(2, 3, 4, 4))
    assert seen == []


def test_five_dimensional_windows_are_listed_like_images():
    class WindowAttention(nn.Module):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return logits.softmax(dim=-1)

    seen: list[torch.Tensor] = []
    logits = torch.randn(2, 6, 3, 4, 4)
    with record_attention(module := WindowAttention(), seen.append):
        module(logits)
    torch.testing.assert_close(seen[0], logits.softmax(-1).reshape(12, 3, 4, 4))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("key_width", [8, 6])
def test_multihead_weights_agree_with_its_own(batch_first, key_width):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, kdim=key_width, vdim=8, batch_first=batch_first).eval()
    query, key, value = torch.randn(4, 4, 8), torch.randn(4, 4, key_width), torch.randn(4, 4, 8)
    _, expected = module(query, key, value, need_weights=True, average_attn_weights=False)
    seen: list[torch.Tensor] = []
    with record_attention(module, seen.append):
        module(query, key, value=value, need_weights=False)
    torch.testing.assert_close(seen[0], expected)
    torch.testing.assert_close(multihead_weights(module, query, key), expected)


def test_masked_multihead_attention_reports_no_weights_rather_than_wrong_ones():
    module, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(2, 4, 8)
    mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
    seen: list[torch.Tensor] = []
    with record_attention(module, seen.append):
        module(x, x, x, attn_mask=mask)
        module(x, x, x, None, False, mask)
    assert seen == []


def test_hooks_and_watch_are_gone_after_an_error_inside_the_module():
    class BrokenAttention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x.softmax(-1)
            raise RuntimeError("broken")

    module, seen = BrokenAttention(), []
    with pytest.raises(RuntimeError, match="broken"), record_attention(module, seen.append):
        module(torch.randn(1, 2, 3, 3))
    torch.randn(1, 2, 3, 3).softmax(-1)
    assert seen == []
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
    assert torch.overrides._get_current_function_mode() is None


def test_the_outer_of_two_nested_attention_modules_is_not_listed():
    class InnerAttention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).mT.unsqueeze(1)
            return (tokens @ tokens.mT).softmax(-1) @ tokens

    class OuterAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = InnerAttention()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    assert trace(nn.Sequential(OuterAttention()), example("cls", 1)).attention == ("0.inner",)


@pytest.mark.parametrize("kdim", [None, 6])
@pytest.mark.parametrize("batch_first", [True, False])
def test_the_heads_outputs_of_torchs_attention_give_its_output_when_projected(batch_first, kdim):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, batch_first=batch_first, kdim=kdim, vdim=kdim).eval()
    nn.init.normal_(module.in_proj_bias)
    query = torch.randn(3, 5, 8)
    other = query if kdim is None else torch.randn(3, 7, kdim)
    given = (
        (query, other, other) if batch_first else [t.transpose(0, 1) for t in (query, other, other)]
    )
    seen = []
    handle = on_multihead_outputs(module, seen.append)
    output, _ = module(*given)
    handle.remove()
    expected = output if batch_first else output.transpose(0, 1)
    assert torch.allclose(module.out_proj(seen[0]), expected, atol=1e-6)
    module(*given)
    assert len(seen) == 1


def test_of_masked_attention_no_heads_are_reported():
    module = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    seen = []
    on_multihead_outputs(module, seen.append)
    x = torch.randn(3, 5, 8)
    module(x, x, x, attn_mask=torch.zeros(5, 5, dtype=torch.bool))
    assert not seen
