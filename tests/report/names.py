"""Names of about 200 layers, as libraries give them."""

from __future__ import annotations


def blocks(before: list[str], block: str, count: int, inner: list[str], after: list[str]):
    return [*before, *(f"{block}{i}.{part}" for i in range(count) for part in inner), *after]


def stages(block: str, depths: tuple[int, ...], inner: list[str], first: int = 0):
    places = [(s, i) for s, depth in enumerate(depths, first) for i in range(depth)]
    return [f"{block.format(s, i)}.{part}" for s, i in places for part in inner]


ATTENTION = [f"attention.{part}" for part in ("query", "key", "value", "output.dense")]

LAYERS = {
    "timm ViT": blocks(
        ["patch_embed.proj", "patch_embed", "pos_drop", "norm_pre"],
        "blocks.", 12,
        ["norm1", "attn.qkv", "attn.q_norm", "attn.k_norm", "attn.attn_drop", "attn.proj",
         "attn.proj_drop", "attn", "ls1", "drop_path1", "norm2", "mlp.fc1", "mlp.act", "mlp.fc2",
         "mlp", "ls2"],
        ["norm", "fc_norm", "head_drop", "head"],
    ),
    "timm ResNet-50": [
        "conv1", "bn1", "act1", "maxpool",
        *stages("layer{}.{}", (3, 4, 6, 3),
                ["conv1", "bn1", "act1", "conv2", "bn2", "drop_block", "act2", "aa", "conv3",
                 "bn3", "drop_path", "act3"], first=1),
        "global_pool.pool", "fc",
    ],
    "timm ConvNeXt": [
        "stem.0", "stem.1",
        *stages("stages.{}.blocks.{}", (3, 3, 9, 3),
                ["conv_dw", "norm", "mlp.fc1", "mlp.act", "mlp.grn", "mlp.drop1", "mlp.fc2",
                 "mlp", "shortcut", "drop_path"]),
        "head.norm", "head.fc",
    ],
    "torchvision ViT": blocks(
        ["conv_proj", "encoder.dropout"],
        "encoder.layers.encoder_layer_", 16,
        ["ln_1", "self_attention.out_proj", "self_attention", "dropout", "ln_2", "mlp.0", "mlp.1",
         "mlp.2", "mlp.3", "mlp.4", "mlp"],
        ["encoder.layers", "encoder.ln", "encoder", "heads.head"],
    ),
    "torchvision DenseNet": [
        "features.conv0", "features.norm0",
        *stages("features.denseblock{}.denselayer{}", (6, 12, 24, 16), ["norm1", "conv1", "conv2"],
                first=1),
        "classifier",
    ],
    "Hugging Face ViT": blocks(
        ["vit.embeddings.patch_embeddings.projection", "vit.embeddings"],
        "vit.encoder.layer.", 16,
        ["layernorm_before", *(f"attention.{part}" for part in ATTENTION), "attention",
         "layernorm_after", "intermediate.dense", "intermediate", "output.dense", "output"],
        ["vit.layernorm", "vit", "classifier"],
    ),
    "Hugging Face ResNet": [
        "resnet.embedder.embedder.convolution", "resnet.embedder",
        *stages("resnet.encoder.stages.{}.layers.{}", (3, 4, 6, 3),
                [f"layer.{i}.{part}" for i in range(3)
                 for part in ("convolution", "normalization", "activation")] + ["activation"]),
        "resnet.pooler", "classifier.1",
    ],
    "no numbers": [f"layer_{chr(97 + i // 20)}{chr(97 + i % 20)}" for i in range(200)],
    "deep and alike": [f"net.body.block.part{i}" for i in range(200)],
}  # fmt: skip
