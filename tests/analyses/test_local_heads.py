"""Subsets of heads against CNN layers: bilinearity, direct CKA, and what does not apply."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.labelled import ends, figures, values
from zoo.analyses import local_heads
from zoo.analyses.attention_distance import attention_distance
from zoo.analyses.engine import compare_models
from zoo.analyses.local_heads import early_layers, head_subsets, subset_hsic
from zoo.analyses.local_heads_figures import LEAST_RANGE
from zoo.capture import HookPoint, observe
from zoo.config import Settings
from zoo.measures.linear_cka import centred_gram, linear_cka, pairwise_hsic
from zoo.models.files import LoadedModel, describe_module
from zoo.study.prepare import prepare_study
from zoo.study.results import ComparisonResults, Part
from zoo.study.tree import from_tree, to_tree

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 6}


def make_vit(name: str = "vit", **kwargs) -> LoadedModel:
    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch16_224", num_classes=3, **(SMALL | kwargs)).eval()
    for parameter_name, parameter in network.named_parameters():
        if "qkv.weight" in parameter_name:
            parameter.data.normal_(std=0.4)
    return describe_module(network, name=name, image_size=16)


def make_cnn(name: str = "cnn", arch: str = "resnet18") -> LoadedModel:
    torch.manual_seed(1)
    return describe_module(timm.create_model(arch, num_classes=3), name=name, image_size=16)


def some_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, 16, 16, 3), dtype=np.uint8)


def run(*models: LoadedModel, count: int = 12, batch_size: int = 6):
    found = compare_models(
        models,
        some_images(count),
        only=["local-heads"],
        settings=Settings(batch_size=batch_size, references=False),
    )
    return found.results.get("local-heads"), found.not_applicable.get("local-heads")


def activations(
    model: LoadedModel, images: np.ndarray, *hook_points: HookPoint
) -> dict[HookPoint, np.ndarray]:
    seen: dict[HookPoint, np.ndarray] = {}
    with observe(
        model.module,
        hook_points,
        lambda hook_point, v: seen.update({hook_point: v.double().numpy().copy()}),
    ):
        model(images)
    return seen


# --- the measures -----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=9))
def test_subsets_run_from_the_nearest_half_to_the_farthest(distances):
    distances = np.array(distances)
    subsets = head_subsets(distances)
    size = max(1, len(distances) // 2)
    assert subsets.shape == (len(distances) - size + 1, len(distances))
    assert (subsets.sum(axis=1) == size).all()
    means = subsets @ distances / size
    assert (np.diff(means) >= -1e-9).all()
    ordered = np.sort(distances)
    assert means[0] == pytest.approx(ordered[:size].mean())
    assert means[-1] == pytest.approx(ordered[-size:].mean())


def test_hsic_of_a_subset_is_that_of_its_concatenated_outputs():
    random = np.random.default_rng(0)
    heads = [torch.tensor(random.normal(size=(8, 5))) for _ in range(4)]
    layers = [torch.tensor(random.normal(size=(8, 7))) for _ in range(2)]
    subsets = np.array([[1.0, 0, 1, 0], [0, 1, 1, 1]])

    def hsic(parts):
        return pairwise_hsic(torch.stack([centred_gram(p).values for p in parts]), 8).numpy()

    joined = [torch.cat([h for h, s in zip(heads, row, strict=True) if s], 1) for row in subsets]
    found = subset_hsic(hsic([*heads, *layers]), subsets)
    np.testing.assert_allclose(found, hsic([*joined, *layers]), rtol=1e-9)
    stacked = subset_hsic(np.stack([hsic([*heads, *layers])] * 3), subsets)
    np.testing.assert_allclose(stacked, np.stack([found] * 3))


# --- the analysis -----------------------------------------------------------------------------


def test_cka_is_that_of_the_chosen_heads_outputs_with_early_cnn_layers():
    vit, cnn = make_vit(), make_cnn()
    result, _ = run(vit, cnn, count=10, batch_size=10)  # one batch: nothing is averaged
    images = some_images(10)
    attention, outputs = (
        HookPoint("blocks.0.attn", "attention"),
        HookPoint("blocks.0.attn.proj", "input"),
    )
    of_vit = activations(vit, images, attention, outputs)
    layers = ("maxpool", "layer1.0", "layer1.1", "layer2.0")
    of_cnn = activations(cnn, images, *(HookPoint(layer) for layer in layers))
    weights = torch.tensor(of_vit[attention])
    distances = attention_distance(weights, 4, 4, 4.0, 1).mean(dim=0).numpy()
    found = values(result, "head_distance", "vit", "cnn")
    np.testing.assert_allclose(found, distances, atol=1e-4)
    order = np.argsort(distances)
    heads = of_vit[outputs].reshape(10, 17, 6, 4)
    expected = np.array(
        [
            [
                linear_cka(heads[:, :, order[i : i + 3]].reshape(10, -1), of_cnn[HookPoint(layer)])
                for layer in layers
            ]
            for i in range(4)
        ]
    )
    assert tuple(result.part("vit", network_b="cnn")["name"].values) == layers
    np.testing.assert_allclose(values(result, "cka", "vit", "cnn"), expected, atol=1e-5)
    means = [distances[order[i : i + 3]].mean() for i in range(4)]
    np.testing.assert_allclose(values(result, "distance", "vit", "cnn"), means, atol=1e-4)
    change = (expected[0] - expected[-1]).mean()
    assert result.metric("local_minus_global", "vit", "cnn") == pytest.approx(change, abs=1e-5)
    spread = result.metric("distance_range", "vit", "cnn")
    assert spread == pytest.approx(means[-1] - means[0], abs=1e-4)
    found = result.find("local_minus_global", "vit", "cnn")
    assert found.low < found.value < found.high  # of ten images in one batch


def test_hsic_is_averaged_over_batches_before_the_ratio():
    vit, cnn = make_vit(), make_cnn()
    result, _ = run(vit, cnn, count=12, batch_size=6)
    subsets = values(result, "heads", "vit", "cnn")
    sums = np.zeros((3,))
    for first in (0, 6):
        images = some_images(12)[first : first + 6]
        outputs = HookPoint("blocks.0.attn.proj", "input")
        heads = activations(vit, images, outputs)[outputs].reshape(6, 17, 6, 4)
        chosen = heads[:, :, subsets[0] == 1].reshape(6, -1)
        layer = activations(cnn, images, HookPoint("layer1.0"))[HookPoint("layer1.0")]
        grams = [centred_gram(torch.tensor(v)).values for v in (chosen, layer)]
        hsic = pairwise_hsic(torch.stack(grams), 6).numpy()
        sums += [hsic[0, 1], hsic[0, 0], hsic[1, 1]]
    expected = sums[0] / math.sqrt(sums[1] * sums[2])
    assert values(result, "cka", "vit", "cnn")[0, 1] == pytest.approx(expected, abs=1e-5)
    low, high = ends(result, "cka", "vit", "cnn")
    assert (low <= high).all()
    assert (low < high).any()


def test_every_vit_is_compared_with_every_cnn_whatever_their_order(monkeypatch):
    monkeypatch.setattr(local_heads, "LEAST_RANGE", 0)
    result, _ = run(make_cnn("c1"), make_vit("v1"), make_cnn("c2"), make_vit("v2", depth=3))
    pairs = [(part.network, part.network_b) for part in result.parts]
    assert set(pairs) == {("v1", "c1"), ("v1", "c2"), ("v2", "c1"), ("v2", "c2")}
    drawn = figures(local_heads.draw(result, ["c1", "v1", "c2", "v2"]))
    assert set(drawn) == {f"local-heads-{vit}__{cnn}" for vit, cnn in pairs}
    assert set(figures(local_heads.draw(result, ["v1", "c2"]))) == {"local-heads-v1__c2"}
    axis = drawn["local-heads-v1__c1"].axes[0]
    assert axis.get_legend().get_title().get_text() == "layers of c1"
    assert "v1" in axis.get_xlabel()
    np.testing.assert_allclose(axis.lines[2].get_ydata(), values(result, "cka", "v1", "c1")[:, 2])
    assert axis.get_ylim()[1] == 1
    kept = to_tree(ComparisonResults((), {"local-heads": result}, {}, 12))
    again = from_tree(kept).results["local-heads"]
    for part in result.parts:
        assert again.part(part.network, network_b=part.network_b).identical(part.data)


@pytest.mark.parametrize("factor", [0.49, 1.01])
def test_heads_that_look_equally_far_have_no_figure(factor: float):
    result, _ = run(make_cnn(), make_vit())
    least = LEAST_RANGE * result.metric("patch", "vit")
    assert least == 2  # half of a patch of 4 pixels
    data = result.part("vit", network_b="cnn")
    means = np.linspace(8, 8 + factor * least, data.sizes["subset"])
    data = data.assign_coords(distance=("subset", means))
    changed = replace(result, parts=(Part("vit", data, network_b="cnn"),))
    drawn = local_heads.draw(changed, ["cnn", "vit"])
    assert len(drawn) == (factor > 1)


def test_it_is_noted_why_there_is_no_figure(monkeypatch):
    monkeypatch.setattr(local_heads, "LEAST_RANGE", 1e6)
    result, _ = run(make_cnn(), make_vit())
    assert local_heads.draw(result, ["cnn", "vit"]) == []
    assert any("vit and cnn: no figure" in n and "due to chance" in n for n in result.notes)


def test_models_without_a_single_relative_make_it_not_applicable():
    result, reason = run(make_vit())
    assert result is None
    assert "needs a CNN" in reason
    result, reason = run(make_cnn())
    assert result is None
    assert "cnn: no local heads" in reason


def test_the_heads_of_torchs_own_attention_are_seen():
    network = torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=4, hidden_dim=16, mlp_dim=16
    )
    own = describe_module(network, name="tv", image_size=16)
    result, _ = run(own, make_cnn())
    assert result.networks == ("tv", "cnn")
    assert result.part("tv", network_b="cnn")["cka"].shape[0] == 3
    assert result.metric("distance_range", "tv", "cnn") > 0


def test_a_constant_cnn_layer_is_named_and_leaves_no_metric(monkeypatch):
    monkeypatch.setattr(local_heads, "LEAST_RANGE", 0)
    cnn = make_cnn()
    cnn.module.layer1[0].register_forward_hook(lambda part, args, output: torch.ones_like(output))
    result, _ = run(make_vit(), cnn)
    assert any("cnn: layer1.0 is constant" in note for note in result.notes)
    assert np.isnan(values(result, "cka", "vit", "cnn")[:, 1]).all()
    assert {metric.measure for metric in result.metrics} == {"patch", "distance_range"}
    assert local_heads.draw(result, ["vit", "cnn"])


def test_a_constant_head_is_named_and_the_others_still_count():
    vit = make_vit()
    attention = vit.module.blocks[0].attn
    rows = slice(2 * 24 + 4, 2 * 24 + 8)  # the values of the second head
    attention.qkv.weight.data[rows] = 0
    attention.qkv.bias.data[rows] = 1
    result, _ = run(vit, make_cnn())
    assert any("blocks.0.attn head 2 is constant" in note for note in result.notes)
    assert np.isfinite(values(result, "cka", "vit", "cnn")).all()


def test_early_layers_are_the_stem_and_the_first_third_of_the_blocks():
    models = [make_cnn(), make_cnn("shallow", "resnet10t")]
    known = Settings(references=False)
    study = prepare_study(models, some_images(4), None, (), (), known, "cpu")
    resnet, shallow = study.compared
    assert early_layers(resnet) == ("maxpool", "layer1.0", "layer1.1", "layer2.0")
    assert early_layers(shallow) == ("maxpool", "layer1.0", "layer2.0")


def test_what_is_not_finite_in_one_batch_has_no_cka_and_leaves_the_others_theirs():
    vit, cnn, runs = make_vit(), make_cnn(), []
    plain, _ = run(vit, cnn)

    def spoil(part, args, output):
        runs.append(part)
        if len(runs) == 7:  # the first batch: before, the network ran to be looked at
            output[0] = torch.nan

    cnn.module.layer1[0].bn2.register_forward_hook(spoil)
    cnn.module.layer1[1].register_forward_pre_hook(lambda part, args: args[0].nan_to_num())
    result, _ = run(vit, cnn)
    assert "cnn: layer1.0 is not finite in a batch" in result.notes
    for table in (values(result, "cka", "vit", "cnn"), *ends(result, "cka", "vit", "cnn")):
        assert np.isnan(table[:, 1]).all()
        assert np.isfinite(np.delete(table, 1, axis=1)).all()
    stem = values(result, "cka", "vit", "cnn")[:, 0]
    np.testing.assert_allclose(stem, values(plain, "cka", "vit", "cnn")[:, 0])


def test_a_head_that_is_not_a_number_spoils_its_own_subsets_alone():
    random = np.random.default_rng(0)
    hsic = random.normal(size=(3, 5, 5))
    subsets = np.array([[1.0, 1, 0], [0, 1, 1]])
    broken = hsic.copy()
    broken[1, 0, :] = broken[1, :, 0] = np.nan
    found, whole = subset_hsic(broken, subsets), subset_hsic(hsic, subsets)
    assert np.isnan(found[1, 0]).all()
    assert np.isnan(found[1, :, 0]).all()
    np.testing.assert_allclose(found[1, 1:, 1:], whole[1, 1:, 1:])
    np.testing.assert_allclose(found[[0, 2]], whole[[0, 2]])
