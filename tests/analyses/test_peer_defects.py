"""Defects that published tools have, each met by a comparison: none of them happens here."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.labelled import layers, values
from tests.measures.test_linear_cka import reference_cka
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.errors import UserError
from zoo.measures.linear_cka import linear_cka
from zoo.models.build import build
from zoo.models.files import describe_module, load_model, save_model

SIDE = 8
IMAGES = np.random.default_rng(0).integers(0, 256, (34, SIDE, SIDE, 3), dtype=np.uint8)


def compared(models, images=IMAGES, **options):
    options = {"batch_size": 16, "references": False, "layers": "all"} | options
    return compare_models(models, images, only=["cka"], settings=Settings(**options)).results["cka"]


def named(module, **known):
    """A model that sees pixels from 0 to 1."""
    plain = {"mean": [0.0] * 3, "std": [1.0] * 3}
    return describe_module(module.eval(), name="m", image_size=SIDE, **plain, **known)


def scaled():
    return torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 255


class Parts(nn.Module):
    """Registers its layers in another order than it runs them in, one inside another."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.body = nn.Sequential(nn.Linear(3 * SIDE**2, 6), nn.BatchNorm1d(6), nn.ReLU(True))
        self.neck = nn.Linear(6, 4)
        self.never = nn.Dropout()

    def values(self, x):
        """Every layer's output, by hand and without anything in place."""
        x = x.flatten(1)
        found = {"body.0": self.body[0](x)}
        found["body.1"] = self.body[1](found["body.0"])
        found["body.2"] = found["body"] = found["body.1"].relu()
        found["neck"] = self.neck(found["body"])
        found["head"] = self.head(found["neck"])
        return {name: value.detach().numpy() for name, value in found.items()}

    def forward(self, x):
        return self.head(self.neck(self.body(x.flatten(1))))


@pytest.fixture
def parts():
    torch.manual_seed(0)
    module = Parts()
    nn.init.normal_(module.body[1].running_mean)
    return named(module)


def test_labels_stand_beside_the_values_of_their_own_layers(parts):
    result = compared([parts])
    outputs = parts.module.values(scaled())
    names = layers(result, "m")
    assert names == ("body.0", "body.1", "body.2", "body", "neck", "head")
    ends = [slice(0, 11), slice(11, 23), slice(23, 34)]
    expected = [
        [reference_cka([outputs[a][e] for e in ends], [outputs[b][e] for e in ends]) for b in names]
        for a in names
    ]
    found = values(result, "cka", "m", "m")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # A norm is not what the ReLU after it makes of it in place.
    assert found[1, 2] < 0.99
    assert found[2, 3] == pytest.approx(1)


def test_a_module_that_never_runs_is_no_layer_and_no_error(parts):
    result = compared([parts])
    assert "never" not in layers(result, "m")
    assert np.isfinite(values(result, "cka", "m", "m")).all()


def test_dropout_inside_fused_attention_never_runs_and_leaves_no_gap():
    torch.manual_seed(0)
    sizes = {"img_size": SIDE, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2}
    module = timm.create_model("vit_tiny_patch16_224", num_classes=3, **sizes)
    assert module.blocks[0].attn.fused_attn
    model = named(module)
    result = compared([model])
    assert "blocks.0.attn" in layers(result, "m")
    assert "blocks.0.attn.attn_drop" not in layers(result, "m")
    assert np.isfinite(values(result, "cka", "m", "m")).all()
    found = compare_models([model], IMAGES, only=["attention-distance", "attention-maps"])
    assert found.not_applicable == {}
    for name, result in found.results.items():
        assert layers(result, "m") == ("blocks.0.attn", "blocks.1.attn"), name


@pytest.mark.parametrize("count", [33, 34, 35])
def test_no_ragged_last_batch_is_left(parts, count):
    images = np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    result = compared([parts], images)
    assert np.isfinite(values(result, "cka", "m", "m")).all()
    assert result.metric("batches") == 3


def test_every_batch_counts_and_the_number_of_layers_does_not(parts):
    one = values(compared([parts], batch_size=34), "cka", "m", "m")
    halves = compared([parts], np.concatenate([IMAGES, IMAGES]), batch_size=34)
    np.testing.assert_allclose(values(halves, "cka", "m", "m"), one, atol=1e-6)
    other = np.random.default_rng(2).integers(0, 256, IMAGES.shape, dtype=np.uint8)
    first, second = compared([parts], np.concatenate([IMAGES, other]), batch_size=34), one
    assert np.abs(values(first, "cka", "m", "m") - second).max() > 1e-3
    few = values(compared([parts], layers="^(body|neck)$"), "cka", "m", "m")
    np.testing.assert_allclose(few, values(compared([parts]), "cka", "m", "m")[3:5, 3:5])


def test_a_zero_initialised_norm_is_named_and_the_sum_after_it_measured():
    torch.manual_seed(0)
    module = timm.create_model("resnet18", num_classes=3)
    result = compared([named(module)], layers=r"layer4\.1(\.bn2)?$")
    assert result.notes == ("m: layer4.1.bn2 is constant",)
    found = values(result, "cka", "m", "m")
    assert np.isnan(found[0]).all()
    assert found[1, 1] == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e3])
def test_small_and_large_activations_are_alike_to_themselves(parts, scale):
    module = parts.module
    with torch.no_grad():
        module.body[0].weight *= scale
        module.body[0].bias *= scale
    result = compared([parts], layers="^body.0$")
    assert values(result, "cka", "m", "m")[0, 0] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("ratio", [27, 91])
def test_a_large_mean_is_no_loss_in_a_comparison(parts, ratio):
    plain = values(compared([parts], layers="^body.0$|neck"), "cka", "m", "m")
    module = parts.module
    with torch.no_grad():
        spread = module.values(scaled())["body.0"].std()
        shift = float(ratio * spread)
        module.body[0].bias += shift
        module.body[1].running_mean += shift
    found = values(compared([parts], layers="^body.0$|neck"), "cka", "m", "m")
    np.testing.assert_allclose(found, plain, atol=1e-4)


def test_unrelated_layers_may_lie_below_zero_and_are_not_clamped():
    random = np.random.default_rng(5)
    values = [linear_cka(random.normal(size=(8, 3)), random.normal(size=(8, 3))) for _ in range(50)]
    assert min(values) < 0


def test_trained_weights_are_what_is_compared_and_a_missing_file_is_an_error(tmp_path):
    sizes = {"patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2}
    module = build("vit", classes=3, image_size=SIDE, **sizes)
    with torch.no_grad():
        module.blocks[0].mlp.fc2.bias += 3
    spec = named(module, arch="vit", kwargs=sizes, class_names=list("abc")).spec
    save_model(tmp_path, module, spec)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded.module.blocks[0].mlp.fc2.bias, module.blocks[0].mlp.fc2.bias)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError):
        load_model(tmp_path)


def test_feature_maps_are_the_networks_own_after_norm_relu_and_skip():
    torch.manual_seed(0)
    module = timm.create_model("resnet18", num_classes=3, zero_init_last=False).eval()
    found = compare_models([named(module)], IMAGES, only=["feature-maps"])
    shown = found.results["feature-maps"].part("m", "layer1.0")["mean"].values
    with torch.no_grad():
        x = module.maxpool(module.act1(module.bn1(module.conv1(scaled()))))
        expected = module.layer1[0](x)[list(found.shown)].mean(dim=1)
        block = module.layer1[0]
        chained = block.conv2(block.conv1(x))[list(found.shown)].mean(dim=1)
    np.testing.assert_allclose(shown, expected.numpy(), atol=1e-5)
    assert np.abs(shown - chained.numpy()).max() > 0.05
