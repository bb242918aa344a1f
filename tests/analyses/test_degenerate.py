"""Degenerate input, for every analysis: named in its notes or as not applicable, never hidden."""

import warnings
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from tests.labelled import values
from zoo.analyses import ANALYSES, choose_analyses, load_analysis
from zoo.analyses.engine import compare_models
from zoo.claims import judge
from zoo.config import Settings
from zoo.errors import UserError
from zoo.models.build import build
from zoo.models.files import describe_module

SIDE, CLASSES = 16, ("zero", "one", "two")
VIT = {"patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2}


def images(n=16):
    return np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def vit():
    return build("vit", classes=len(CLASSES), image_size=SIDE, **VIT)


def cnn(last=32):
    """A ResNet of four narrow blocks; `last` is the side of image at which it ends on 1 × 1."""
    from timm.models.resnet import BasicBlock, ResNet

    channels = (8, 8, 16, 16)
    stem = {"zero_init_last": False}
    if last == SIDE:
        stem |= {"stem_type": "deep", "stem_width": 4}
    net = ResNet(BasicBlock, (1, 1, 1, 1), len(CLASSES), channels=channels, **stem)
    if last != SIDE:
        net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1), nn.Identity()
    return net


def named(name, module):
    return describe_module(module.eval(), name=name, image_size=SIDE, class_names=list(CLASSES))


def pair():
    torch.manual_seed(0)
    return [named("vit", vit()), named("cnn", cnn())]


def constant_layers():
    """Both networks give the same features for all images."""
    models = pair()
    nn.init.zeros_(models[0].module.patch_embed.proj.weight)
    nn.init.zeros_(models[1].module.conv1.weight)
    return models


def constant_last_block():
    models = pair()
    for last in (models[0].module.blocks[-1], models[1].module.layer4[-1]):
        last.register_forward_hook(lambda part, args, output: torch.ones_like(output))
    return models


def zero_last_block():
    models = pair()
    models[0].module.blocks[-1].register_forward_hook(lambda part, args, output: 0 * output)
    return models


def zero_branches():
    """The second sum adds nothing, as after timm's zero initialisation."""
    models = pair()
    for part in (models[0].module.blocks[1].attn.proj, models[0].module.blocks[1].mlp.fc2):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    nn.init.zeros_(models[1].module.layer2[0].bn2.weight)
    return models


def not_a_number():
    models = pair()
    models[0].module.blocks[1].mlp.fc2.bias.data[0] = torch.nan
    models[1].module.layer2[0].conv2.weight.data[0] = torch.nan
    return models


def one_by_one():
    torch.manual_seed(0)
    return [named("vit", vit()), named("cnn", cnn(SIDE))]


def without_blocks():
    torch.manual_seed(0)
    convolutions = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * SIDE**2, 3)
    )
    dense = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 8), nn.Linear(8, 3))
    return [named("convolutions", convolutions), named("dense", dense)]


def one_token():
    """One patch as large as the image: attention has nothing to choose among."""
    torch.manual_seed(0)
    sizes = VIT | {"patch_size": SIDE}
    one = build("vit-gap", classes=len(CLASSES), image_size=SIDE, **sizes)
    return [named("one", one), named("cnn", cnn())]


LABELS = np.arange(16) % 3
CASES = {
    "constant layers": (constant_layers, images(), LABELS),
    "a constant last block": (constant_last_block, images(), LABELS),
    "a block that gives zero": (zero_last_block, images(), LABELS),
    "branches that add nothing": (zero_branches, images(), LABELS),
    "not a number": (not_a_number, images(), LABELS),
    "one image many times": (pair, np.repeat(images(1), 16, axis=0), LABELS),
    "every image twice": (pair, np.repeat(images(8), 2, axis=0), LABELS),
    "four images": (pair, images(4), LABELS[:4]),
    "one class": (pair, images(), np.zeros(16, np.int64)),
    "every image of another class": (pair, images(4), np.arange(4)),
    "no labels": (pair, images(), None),
    "labels without names": (pair, images(), LABELS),
    "feature maps of one place": (one_by_one, images(), LABELS),
    "one token": (one_token, images(), LABELS),
    "no blocks": (without_blocks, images(), LABELS),
    "one model": (lambda: pair()[:1], images(), LABELS),
}


# What is said of it, by case and analysis.
SAID = {
    "constant layers": {
        "cka": "vit: blocks.0 is constant",
        "similarity": "cnn: layer2.0 is constant (all measures)",
        "local-heads": "vit: blocks.0.attn head 1 is constant in a batch",
        "receptive-field": "vit: blocks.1 has the same sum over channels whatever the input",
        "localisation": "vit: 16 of 16 tokens of blocks.2 are constant or not finite",
        "probes": "vit: 16 of 16 tokens of blocks.2: no probe, since features are constant",
        "stitching": "vit: nothing is fitted to blocks.0: features are constant",
    },
    "a constant last block": {
        "cka": "cnn: layer4.0 is constant",
        "receptive-field": "vit: blocks.2 does not depend on the input",
        "grad-cam": "vit: no map: its logits do not depend on any place of blocks.2",
    },
    "a block that gives zero": {
        "cka": "vit: blocks.2 is constant",
        "similarity": "vit: blocks.2 is constant (all measures)",
    },
    "branches that add nothing": {
        "residuals": "cnn: residual: left out tokens or locations, zero or not finite: layer2.0",
        "receptive-field": "cnn: layer2.0.bn2 has the same sum over channels",
    },
    "not a number": {
        "patch-components": "vit: no colours: blocks.2: features are not finite",
        "accuracy": "vit: on 16 of 16 images its outputs are not numbers; they count as wrong",
        "ablation": "cnn: on 16 of 16 images its outputs are not numbers; they count as wrong",
        "cka": "vit: blocks.1 is not finite",
        "similarity": "cnn: layer2.0 is not finite (all measures)",
        "attention-maps": "vit: entropy is not defined",
        "attention-distance": "vit: local_heads is not defined",
        "local-heads": "cnn: layer2.0 is not finite in a batch",
        "feature-maps": "cnn: layer2.0 is not finite",
        "receptive-field": "vit: blocks.2 has gradients that are not finite",
        "residuals": "vit: found no residual sum in blocks.2: nothing is added there",
        "localisation": "cnn: 16 of 16 tokens of layer3.0 are constant or not finite",
        "probes": "cnn: layer2.0, mean over places: no probe, since features are not finite",
        "grad-cam": "vit: predicted: deletion is undefined, probabilities are not finite",
    },
    "one image many times": {
        "cka": "15 of 16 images are copies of others",
        "localisation": "vit: 16 of 16 patches of the images are constant",
        "stitching": "vit: nothing is fitted to blocks.0: features are constant",
    },
    "every image twice": {
        "cka": "8 of 16 images are copies of others",
        "similarity": "8 of 16 images are copies of others",
        "localisation": "8 of 16 images are copies of others",
        "probes": "8 of 16 images are copies of others: what is tested may have been fitted",
    },
    "four images": {
        "cka": "no intervals: they come from groups of images, and there are fewer than 8",
        "similarity": "vit: blocks.0 needs more than 10 images, got 4",
        "probes": "it needs two classes with at least 4 images each",
        "stitching": "it needs at least 10 images, and there are 4",
    },
    "one class": {
        "accuracy": "2 of 3 classes have no image: one, two",
        "probes": "it needs two classes with at least 4 images each",
    },
    "every image of another class": {
        "calibration": "no model was trained on the classes of these images",
        "robustness": "no model was trained on the classes of these images",
        "stitching": "no model was trained on the classes of these images",
        "accuracy": "no model was trained on the classes of these images",
        "ablation": "cnn: not ablated, since it was trained on other classes",
        "probes": "it needs two classes with at least 4 images each",
        "grad-cam": "vit: some images' classes are not among its own; they have no map",
    },
    "no labels": dict.fromkeys(
        ("accuracy", "ablation", "probes", "calibration", "robustness", "stitching"),
        "the images have no labels",
    ),
    "labels without names": {
        **dict.fromkeys(
            ("calibration", "robustness", "stitching"), "the labels' classes have no names"
        ),
        "accuracy": "the labels' classes have no names",
        "ablation": "vit: not ablated, since it was trained on other classes",
    },
    "feature maps of one place": {
        "grad-cam": "cnn: maps are taken at layer1.0 (4 × 4 places), since the last block",
        "localisation": "cnn: the last block has fewer than 4 × 4 locations",
    },
    "one token": {
        "attention-maps": "one: no attention maps, since its only patch is the whole image",
        "attention-distance": "one: no attention distance, since its only patch",
        "local-heads": "one: no local heads, since its only patch",
        "localisation": "one: no block's output lies over the image in enough places",
        "grad-cam": "one: no map, since its last block has one place only",
    },
    "no blocks": {
        "frequency": "no block's output lies over the image in 2 × 2 places or more",
        "attention-maps": "none of its layers has softmax attention",
        "attention-distance": "dense: no attention distance, since none of its layers has softmax",
        "local-heads": "dense: no local heads, since none of its layers has softmax attention",
        "residuals": "no model has residual blocks",
        "ablation": "dense: not ablated: no residual sum was found in its blocks",
        "receptive-field": "dense: no layer's output lies over the image",
        "grad-cam": "dense: no map, since no block's output lies over the image",
        "stitching": "dense: not stitched: no block's output lies over the image",
    },
    "one model": {
        "stitching": "there is one model only",
        "differences": "there is one model only",
        "similarity": "it compares models with each other, and there is only one",
        "local-heads": "needs a CNN with blocks to compare the ViT with",
        "feature-maps": "no model has feature maps: they need a convolutional network",
    },
}


@cache
def findings(case):
    models, shown, labels = CASES[case]
    classes = () if case == "labels without names" else CLASSES
    if case == "every image of another class":
        classes = (*CLASSES, "three")
    with warnings.catch_warnings():
        # NumPy's warning of a mean of nothing, or of 0/0, is a NaN that nobody expected.
        warnings.simplefilter("error", RuntimeWarning)
        found = compare_models(
            models(),
            shown,
            labels,
            class_names=classes,
            settings=Settings(batch_size=8, references=False, shown_images=2),
        )
        judge(found)
    return found


def _own(result, network, compared):
    """Yield the floats of a network, and of which networks they are; no intervals."""
    for key, variable in result.data.data_vars.items():
        # Best matches are those of the other compared networks, and replicates beside the result.
        if variable.dtype.kind != "f" or key.endswith(("_ci", "_without")):
            continue
        if "matched" in variable.coords:
            continue
        if "network_b" in variable.coords:
            for other in set(compared) - {network}:
                yield values(result, key, network, other), {network, other}
        elif "network" not in variable.coords:  # of the images, such as chance
            yield variable.values, set(compared)
        else:
            yield values(result, key, network), {network}
    for part in result.parts:
        if part.network == network:
            data = part.data.sel(path="sum") if "path" in part.data.dims else part.data
            of = {network, part.network_b} if part.network_b else {network}
            yield from ((v.values, of) for v in data.data_vars.values() if v.dtype.kind == "f")


@pytest.mark.parametrize("name", choose_analyses())
@pytest.mark.parametrize("case", CASES)
def test_what_is_degenerate_is_named(case, name):
    found = findings(case)
    said = [found.not_applicable[name]] if name in found.not_applicable else []
    if result := found.results.get(name):
        said += result.notes
        assert all(np.isfinite(metric.value) for metric in result.metrics)
        compared = [network.name for network in found.compared]
        for model in compared:
            if model not in result.networks:
                assert any(model in note for note in said)
                continue
            for numbers, of in _own(result, model, compared):
                if not np.isfinite(numbers).all():
                    # A note that names no model speaks of all of them.
                    others = set(compared) - of
                    assert any(not any(other in note for other in others) for note in said), of
    if expected := SAID[case].get(name):
        assert any(expected in note for note in said), said
    else:
        assert result, said


@pytest.mark.slow
@pytest.mark.parametrize("case", ["constant layers", "not a number", "one token", "no blocks"])
def test_what_is_degenerate_is_drawn(case):
    for name, result in findings(case).results.items():
        compared = [network.name for network in findings(case).compared]
        for drawing in load_analysis(name).draw(result, compared):
            drawing.figure.canvas.draw()
            plt.close(drawing.figure)


@pytest.mark.parametrize("name", ANALYSES)
def test_fewer_than_four_images_are_refused(name):
    with pytest.raises(UserError, match="expected at least 4 images"):
        compare_models(pair(), images(3), LABELS[:3], class_names=CLASSES, only=[name])
