"""The papers' ViT and what is known to help it learn from little data, one change at a time.

Each change is an argument of its own, so that any of them can be taken alone or together:
`stem`, `attention`, `init` and `global_pool: sequence`. docs/variants.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from zoo.errors import unknown


def vit(classes: int, image_size: int, kwargs: Mapping[str, Any]) -> nn.Module:
    """Build the ViT of Zhu et al.: 9,523,722 parameters at 32 px, patch 4 and 10 classes.

    Args:
        classes: outputs of the classifier.
        image_size: pixels a side of the square input.
        kwargs: timm's, laid over the paper's sizes, and `stem` (`patches`, `convolutions`,
            `tokenizer`, `shifted`), `attention` (`plain`, `local`), `init` (`timm`, `mimetic`),
            `distilled` (a second token and classifier, for a teacher's answers); `global_pool`
            may also be `sequence`.

    Raises:
        UserError: there is no stem, attention or init of such a name.
    """
    # timm takes long to import, and most commands build no network.
    import timm
    from timm.layers import Attention

    from zoo.models.local_attention import LocalSelfAttention, SequencePool
    from zoo.models.mimetic import mimetic_init
    from zoo.models.stems import STEMS

    sizes: dict[str, Any] = {
        "patch_size": 4,
        "embed_dim": 512,
        "depth": 6,
        "num_heads": 8,
        "mlp_ratio": 1.0,
        "qkv_bias": False,
        "pos_drop_rate": 0.1,
        "proj_drop_rate": 0.1,
        "attn_drop_rate": 0.1,
        "stem": "patches",
        "attention": "plain",
        "init": "timm",
        "distilled": False,
    }
    given = sizes | dict(kwargs)
    given["embed_layer"] = _choose("stem", given.pop("stem"), STEMS)
    attentions = {"plain": Attention, "local": LocalSelfAttention}
    given["attn_layer"] = _choose("attention", given.pop("attention"), attentions)
    init = _choose("init", given.pop("init"), {"timm": None, "mimetic": mimetic_init})
    by_sequence = given.get("global_pool") == "sequence"
    if by_sequence:
        given |= {"global_pool": "", "class_token": False}
    fixed = {"num_classes": classes, "img_size": image_size}
    distilled = given.pop("distilled")
    name = "deit_small_distilled_patch16_224" if distilled else "vit_small_patch16_224"
    model: Any = timm.create_model(name, **(given | fixed))
    if init:
        init(model)
    if by_sequence:
        # timm's word for a pool that is a module of its own.
        model.global_pool, model.attn_pool = "map", SequencePool(model.embed_dim)
    return model


def vit_gap(classes: int, image_size: int, kwargs: Mapping[str, Any]) -> nn.Module:
    """Build the same ViT pooled by the mean of its tokens, with no class token."""
    pooling = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    return vit(classes, image_size, {**pooling, **kwargs})


def vit_distilled(classes: int, image_size: int, kwargs: Mapping[str, Any]) -> nn.Module:
    """Build the same ViT with DeiT's distillation token (Touvron et al. 2021, 2012.12877)."""
    return vit(classes, image_size, {"distilled": True, **kwargs})


def cct(classes: int, image_size: int, kwargs: Mapping[str, Any]) -> nn.Module:
    """Build the same ViT with CCT's convolutional tokenizer and sequence pooling."""
    changes = {"stem": "tokenizer", "global_pool": "sequence"}
    return vit(classes, image_size, {**changes, **kwargs})


def _choose(what: str, name: Any, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise unknown(what, name, known)
    return known[name]
