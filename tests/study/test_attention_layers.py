"""Which models and layers attend over one grid of tokens, and why others do not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from zoo.config import Settings
from zoo.models.files import describe_module
from zoo.study.accumulator import NotApplicable
from zoo.study.attention_layers import attending_models, name_images
from zoo.study.networks import Study
from zoo.study.prepare import prepare_study
from zoo.study.results import INITIAL

VIT = "vit_small_patch16_224"
SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}


def study_of(**networks: nn.Module) -> Study:
    images = np.zeros((4, 32, 32, 3), np.uint8)
    models = [
        describe_module(net, name=name, image_size=32 if name == "swin" else 16)
        for name, net in networks.items()
    ]
    known = Settings(references=False)
    return prepare_study(models, images, None, (), (), known, "cpu")


def vit(arch: str = VIT, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(arch, num_classes=3, **(SMALL | kwargs))


def swin() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, embed_dim=16, depths=(2, 2),
        num_heads=(2, 2), window_size=4, num_classes=3,
    )  # fmt: skip


def torchvision_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16
    )


@pytest.mark.parametrize(
    ("network", "tokens", "class_token"),
    [
        (vit, 17, True),
        (lambda: vit(class_token=False, global_pool="avg"), 16, False),
        (lambda: vit(global_pool="avg"), 17, False),
        (lambda: vit(reg_tokens=3), 20, True),
        (lambda: vit(reg_tokens=3, class_token=False, global_pool="avg"), 19, False),
        (lambda: vit("deit_tiny_distilled_patch16_224"), 18, True),
        (lambda: vit("beit_base_patch16_224"), 17, False),
        (torchvision_vit, 17, True),
    ],
)
def test_tokens_and_what_the_classifier_reads_are_found(network, tokens, class_token):
    models, notes = attending_models(study_of(net=network()), "nothing")
    assert models[0].tokens == tokens
    assert models[0].class_token is class_token
    assert models[0].heads == 2
    assert len(models[0].layers) == 2
    assert notes == []


def test_models_without_one_token_grid_are_named_with_the_reason():
    resnet = timm.create_model("resnet10t", num_classes=3)
    models, notes = attending_models(study_of(swin=swin(), resnet=resnet, vit=vit()), "no maps")
    assert list(models) == [2]
    assert models[2].name == "vit"
    assert notes[0].startswith("swin: no maps, since it attends within windows")
    assert notes[1].startswith("resnet: no maps, since none of its layers")
    with pytest.raises(NotApplicable, match=r"swin: no maps, .*resnet: no maps, "):
        attending_models(study_of(swin=swin(), resnet=resnet), "no maps")


def test_blocks_with_tokens_first_are_not_said_to_have_no_attention():
    layer = nn.TransformerEncoderLayer(8, 2, 8)

    class TokensFirst(nn.Sequential):
        def forward(self, x):
            return self[2](self[1](self[0](x).flatten(2).permute(2, 0, 1))[0])

    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    net = TokensFirst(nn.Conv2d(3, 8, 4, 4), encoder, nn.Linear(8, 3))
    with pytest.raises(NotApplicable, match=r"images on the first axis \(batch_first=True does\)"):
        attending_models(study_of(net=net), "no maps")


def test_a_pooling_layer_that_attends_is_left_out_by_name():
    models, notes = attending_models(
        study_of(pooled=vit(class_token=False, global_pool="map")), "nothing"
    )
    assert models[0].layers == ("blocks.0.attn", "blocks.1.attn")
    assert len(notes) == 1
    assert "pooled: left out" in notes[0]
    assert "attn_pool" in notes[0]


def test_attention_over_fewer_tokens_than_the_grid_has_is_refused():
    study = study_of(vit=vit())
    (subject,) = study.networks
    for grid, reason in (
        (None, "not known"),
        (dataclasses.replace(subject.grid, num_prefix_tokens=2), "18"),
    ):
        wrong = dataclasses.replace(study, networks=(dataclasses.replace(subject, grid=grid),))
        with pytest.raises(NotApplicable, match=reason):
            attending_models(wrong, "nothing")


def test_the_same_before_training_and_other_seeds_are_looked_at_without_a_note():
    study = study_of(a=vit(), b=vit(), c=timm.create_model("resnet10t", num_classes=3), d=vit())
    a, b, c, d = study.networks
    b, c = (dataclasses.replace(n, state=INITIAL, compared=False, of="a") for n in (b, c))
    d = dataclasses.replace(d, compared=False, of="a")
    found, notes = attending_models(dataclasses.replace(study, networks=(a, b, c, d)), "nothing")
    assert {s: model.name for s, model in found.items()} == {0: "a", 1: "b", 3: "d"}
    assert notes == []


def test_images_are_named_by_class_and_index():
    study = dataclasses.replace(study_of(vit=vit()), class_names=("cat", "dog"), shown=(1, 0, 3))
    labelled = dataclasses.replace(study, labels=np.array([1, 0, 1, 2]))
    assert name_images(labelled) == ("cat (#1)", "dog (#0)", "class 2 (#3)")
    assert name_images(study) == ("image 1", "image 0", "image 3")
