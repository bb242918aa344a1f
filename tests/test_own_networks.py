"""`zoo.compare` on networks as people bring them: each works, or says in one line why not."""

import re

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn import functional

import zoo
from zoo.errors import UserError
from zoo.models.predict import probabilities

SIZE, CLASSES = 16, ["a", "b"]
BEHAVIOUR = [
    "frequency", "robustness", "calibration", "differences", "patch-components", "stitching",
]  # fmt: skip


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (16, SIZE, SIZE, 3), dtype=np.uint8), np.arange(16) % 2


class Block(nn.Module):
    def __init__(self, width, wider):
        super().__init__()
        self.first, self.second = (nn.Conv2d(w, wider, 3, 1, 1) for w in (width, wider))
        self.skip = nn.Conv2d(width, wider, 1) if wider != width else nn.Identity()

    def forward(self, x):
        return (self.second(self.first(x).relu()) + self.skip(x)).relu()


class ByName(nn.Module):
    """A ResNet whose blocks are attributes, in no container."""

    def __init__(self, stay_on=0.0):
        torch.manual_seed(0)
        super().__init__()
        self.stem, self.stay_on = nn.Conv2d(3, 4, 3, 2, 1), stay_on
        self.layer1, self.layer2, self.layer3 = Block(4, 4), Block(4, 8), Block(8, 8)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x)))).mean((2, 3))
        return self.fc(functional.dropout(x, self.stay_on))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.vit = vit(num_classes=0)

    def forward(self, x):
        return self.vit.forward_features(x)


class NoParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * SIZE**2, 2))

    def forward(self, x):
        return x.flatten(1) @ self.weight


class Viewing(nn.Module):
    """As tutorials write them: `view` takes what lies in memory in the usual order alone."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1))
        self.head = nn.Linear(4 * 4 * 4, 2)

    def forward(self, x):
        return self.head(self.features(x).view(len(x), -1))


def vit(**known):
    torch.manual_seed(0)
    return timm.create_model("test_vit", img_size=SIZE, patch_size=4, depth=2, **known).eval()


def run(module, images, name="net", names=CLASSES, **options):
    pixels, labels = images
    wrapped = zoo.wrap(module, name=name, image_size=SIZE, class_names=names)
    return zoo.compare([wrapped], pixels, labels, class_names=CLASSES, **options)


def test_a_compiled_network_gives_what_it_gives_uncompiled(images):
    module = ByName()
    plain = run(module, images)
    compiled = run(torch.compile(module, backend="eager"), images)
    assert compiled.to_frame().equals(plain.to_frame())
    assert compiled.report()["digest"] == plain.report()["digest"]
    assert compiled["cka"].identical(plain["cka"])


def test_a_network_that_calls_view_is_compared_and_predicts(images):
    result = run(Viewing(), images)
    assert np.isfinite(result["cka"]["cka"]).all()
    assert {"robustness", "grad-cam"} <= set(result.results.results)
    model = zoo.wrap(Viewing(), name="net", image_size=SIZE, class_names=CLASSES)
    pixels = images[0]
    one_by_one = probabilities(model, list(pixels))
    np.testing.assert_allclose(probabilities(model, pixels), one_by_one, atol=1e-6)


def sealed(kind):
    module, x = ByName(), torch.zeros(1, 3, SIZE, SIZE)
    if kind == "script":
        return torch.jit.script(module)
    if kind == "trace":
        return torch.jit.trace(module, x)
    batch = torch.export.Dim("batch")
    example = (torch.cat([x, x]),)
    return torch.export.export(module.eval(), example, dynamic_shapes=({0: batch},)).module()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["script", "trace", "export"])
def test_of_a_network_that_cannot_be_watched_the_outputs_are_used(images, kind, tmp_path):
    plain, found = run(ByName(), images), run(sealed(kind), images)
    same = plain.results.results["accuracy"].metric("accuracy", "net")
    assert found.results.results["accuracy"].metric("accuracy", "net") == same
    assert "calibration" in found.results.results
    assert "a scripted or exported network cannot be" in found.results.not_applicable["cka"]
    assert all(found.results.not_applicable.values())
    found.save(tmp_path / "report")


def test_beside_another_network_it_has_no_layers(images, tmp_path):
    pixels, labels = images
    models = [
        zoo.wrap(NoParts(), name="bare", image_size=SIZE, class_names=CLASSES),
        zoo.wrap(ByName(), name="net", image_size=SIZE, class_names=CLASSES),
    ]
    found = zoo.compare(models, pixels, labels)
    assert set(found["cka"].coords["network"].values) == {"net"}
    assert list(found.plot("cka")) == ["cka-net"]
    assert "only one with layers" in found.results.not_applicable["similarity"]
    found.save(tmp_path / "report")


def test_blocks_that_are_attributes_are_found_by_their_residual_sums(images):
    found = run(ByName(), images)
    roles = found["cka"].coords["role"].values
    names = found["cka"].coords["name"].values
    assert list(names[roles == "block"]) == ["layer1", "layer2", "layer3"]
    assert list(names[roles == "stem"]) == ["stem"]
    assert {"residuals", "ablation"} <= set(found.results.results)


def wrapped(**modules):
    return [
        zoo.wrap(module, name=name, image_size=SIZE, class_names=CLASSES)
        for name, module in modules.items()
    ]


def test_behaviour_is_measured_of_networks_of_ones_own(images):
    found = zoo.compare(wrapped(net=ByName(), vit=vit(num_classes=2)), *images, only=BEHAVIOUR)
    assert found.results.not_applicable == {}
    for analysis in ("frequency", "patch-components"):
        parts = found.results.results[analysis].parts
        assert {part.network for part in parts if not part.layer} == {"net", "vit"}
    for analysis, name in (("robustness", "network"), ("differences", "rated")):
        assert list(found[analysis].coords[name].values) == ["net", "vit"]
    for a, b in (("net", "vit"), ("vit", "net")):
        assert np.isfinite(zoo.select(found["stitching"]["kept"], a, b)).all()


def test_behaviour_that_a_network_without_layers_lacks_is_named(images):
    results = zoo.compare(wrapped(bare=NoParts(), net=ByName()), *images, only=BEHAVIOUR).results
    why = "no block's output lies over the image"
    assert f"bare: not stitched: {why}" in results.not_applicable.pop("stitching")
    assert results.not_applicable == {}
    notes = {name: " ".join(result.notes) for name, result in results.results.items()}
    assert "bare: no curves of layers, since no blocks were found" in notes["frequency"]
    assert f"bare: {why}" in notes["patch-components"]
    assert f"bare: no groups, since {why}" in notes["differences"]
    assert results.results["robustness"].networks == ("bare", "net")


def test_dropout_that_stays_on_is_named(images):
    assert "not deterministic" not in run(ByName(), images, only="accuracy").summary()
    summary = run(ByName(0.5), images, only="accuracy").summary()
    assert "net is not deterministic: two passes over the same images differ" in summary


class BatchNormInTraining(ByName):
    """Its `eval` has no effect, so that each batch is normalised by itself."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(self.stem, nn.BatchNorm2d(4))

    def eval(self):
        return self


def test_a_network_that_mixes_the_images_of_a_batch_is_named_and_keeps_its_weights(images):
    module = BatchNormInTraining()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = run(module, images, only="accuracy")
    said = "net answers an image differently beside other images"
    assert said in found.summary()
    assert said not in run(ByName(), images, only="accuracy").summary()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [network.mixes_images for network in found.results.networks] == [True]


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Tokens, r"it gives no logits \(n, classes\): its output for an image is 17 × 64"),
        (lambda: vit(num_classes=0), "it has no classifier"),
    ],
)
def test_features_are_not_taken_for_logits(images, module, why):
    found = run(module(), images, names=[])
    for analysis in ("accuracy", "grad-cam", "calibration", "ablation", "robustness"):
        assert found.results.not_applicable[analysis].startswith("net: ")
    assert re.search(why, found.results.not_applicable["grad-cam"])
    assert {"cka", "probes", "attention-maps", "residuals"} <= set(found.results.results)
    if module is Tokens:
        with pytest.raises(UserError, match=r"2 class_names, got an output of \(17, 64\); name"):
            run(module(), images)


def test_classes_without_names_are_told_to_be_named(images):
    found = run(ByName(), images, names=[], only=["accuracy", "cka"])
    assert "not known (class_names of zoo.wrap)" in found.results.not_applicable["accuracy"]


def test_a_quantised_network_is_compared(images):
    module = quantize_dynamic(vit(num_classes=2), {nn.Linear}, dtype=torch.qint8)
    found = run(module, images)
    assert {"accuracy", "cka", "attention-maps"} <= set(found.results.results)
    names, roles = (found["cka"].coords[key].values for key in ("name", "role"))
    assert list(names[roles == "block"]) == ["blocks.0", "blocks.1"]
    # Its eight bits span the values of a whole batch.
    assert "net answers an image differently beside other images" in found.summary()


def test_torchs_own_encoder_layer_has_an_mlp(images):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, 4)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.fc = nn.Linear(8, 2)

        def forward(self, x):
            return self.fc(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))

    found = run(Encoder(), images, only="residuals")
    assert set(found["residuals"].coords["branch"].values) == {"attention", "mlp"}
