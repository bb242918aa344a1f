"""Frequencies of layers and answers on changed images, against the networks run by hand."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from zoo.analyses.engine import compare_models
from zoo.analyses.frequency import draw
from zoo.analyses.frequency_answers import BANDS, IMAGES
from zoo.api import wrap
from zoo.claims import judge
from zoo.config import Settings
from zoo.models.preprocess import model_input
from zoo.study.axes import select


@pytest.fixture(scope="module")
def compared(make_model, digit_images):
    models = [make_model("vit"), make_model("resnet18", seed=1)]
    images, labels = digit_images
    found = compare_models(
        models, images, labels, class_names=[str(i) for i in range(10)], only=["frequency"],
        settings=Settings(references=False, batch_size=32),
    )  # fmt: skip
    return models, found


def curve(tokens, side):
    """Mean log amplitude (n, steps) over channels of (n, places, channels), by NumPy."""
    maps = tokens.transpose(1, 2).unflatten(2, (side, side)).double().numpy()
    logs = np.log(np.abs(np.fft.fft2(maps)))
    steps = np.arange(side // 2 + 1)
    return (logs[..., steps, steps] - logs[..., :1, 0]).mean(axis=1)


def test_curves_and_changes_are_those_of_the_blocks_run_by_hand(compared, digit_images):
    (vit, _), found = compared
    result, module = found.results["frequency"], vit.module.eval()
    with torch.no_grad():
        x = module.patch_embed(model_input(digit_images[0], vit.spec, module))
        x = module.norm_pre(module._pos_embed(x))
        for i, block in enumerate(module.blocks):
            middle = x + block.attn(block.norm1(x))
            after = middle + block.mlp(block.norm2(middle))
            curves = [curve(t[:, 1:], 4) for t in (x, middle, after)]
            row = result.part(vit.name, f"blocks.{i}")
            assert np.allclose(row["amplitude"], curves[2].mean(axis=0), atol=1e-3)
            assert row["frequency"].values.tolist() == [0, 0.5, 1]
            highest = select(result.data["highest"], vit.name, name=f"blocks.{i}")
            assert float(highest.squeeze()) == float(row["amplitude"][-1])
            of = result.part(vit.name).isel(branch=slice(2 * i, 2 * i + 2))
            for kind, (before, later) in {"attention": (0, 1), "mlp": (1, 2)}.items():
                step = (curves[later] - curves[before])[:, -1]
                change = float(select(of["change"], kind=kind).squeeze())
                assert change == pytest.approx(step.mean(), abs=2e-3)
                low, high = select(of["change_ci"], kind=kind).values[0]
                assert low < step.mean() < high
            x = after
    changes = select(result.part(vit.name)["change"], kind="attention")
    assert result.metric("change_attention", vit.name) == pytest.approx(float(changes.mean()))


def test_a_projected_skip_is_drawn_but_counts_in_no_mean(compared):
    (_, cnn), found = compared
    part = found.results["frequency"].part(cnn.name)
    assert part.sizes["branch"] == 8
    assert np.isfinite(part["change"]).all()
    plain = [1, 3, 5, 7]  # each stage's first block changes the number of channels
    known = found.results["frequency"].metric("change_residual", cnn.name)
    assert known == pytest.approx(float(part["change"][plain].mean()), rel=1e-5)


def test_accuracy_lost_is_a_mean_over_bands_and_is_compared_on_the_same_images(compared):
    models, found = compared
    result = found.results["frequency"]
    parts = [result.part(m.name) for m in models]
    assert parts[0].attrs["answered_images"] == min(IMAGES, 60)
    high = np.array(BANDS[:-1]) >= 0.6
    lost = [float(of["clean_accuracy"] - of["noise_accuracy"][high].mean()) for of in parts]
    for model, value in zip(models, lost, strict=True):
        assert result.metric("lost_to_high_noise", model.name) == pytest.approx(value)
    names = [m.name for m in models]
    assert result.metric("lost_to_high_noise_difference", *names) == pytest.approx(
        lost[0] - lost[1]
    )
    shares = parts[0]["hybrid_share"]
    assert ((shares >= 0) & (shares.sum("source") <= 1)).all()


def test_claims_take_the_interval_and_figures_name_all_networks(compared):
    models, found = compared
    verdicts = {v.claim.id: v for v in judge(found) if v.claim.analysis == "frequency"}
    assert set(verdicts) == {"P-attention", "P-mlp", "P-convolution", "P-noise"}
    for claim, measure in (("P-attention", "change_attention"), ("P-mlp", "change_mlp")):
        metric = found.results["frequency"].find(measure, models[0].name)
        assert verdicts[claim].measurement.estimate == (metric.value, metric.low, metric.high)
    of = found.results["frequency"].part(models[1].name)
    answered = of.attrs["answered_images"]
    of.attrs["answered_images"] = np.int64(20)  # as a file gives it
    [noise] = [v.as_dict() for v in judge(found) if v.claim.id == "P-noise"]
    of.attrs["answered_images"] = answered
    assert json.loads(json.dumps(noise))["n"] == 20
    drawn = draw(found.results["frequency"], [m.name for m in models])
    assert [d.kind for d in drawn] == [
        "frequency-depth", "frequency-curves", "frequency-answers",
    ]  # fmt: skip
    legend = [text.get_text() for text in drawn[0].figure.legends[0].get_texts()]
    assert legend == ["vit-0, attention", "vit-0, mlp", "resnet18-1, residual"]


def test_lines_of_the_figures_hold_the_numbers_that_they_are_labelled_with(compared):
    models, found = compared
    result = found.results["frequency"]
    depth, _, answers = (d.figure.axes for d in draw(result, [m.name for m in models]))
    highest = {line.get_label(): line.get_ydata() for line in depth[0].lines}
    changes = {bars.get_label(): bars.lines[0].get_ydata() for bars in depth[1].containers}
    noise, hybrid = (
        {line.get_label(): line.get_ydata() for line in axis.lines} for axis in answers[:2]
    )
    for name in (m.name for m in models):
        part = result.part(name)
        assert np.array_equal(highest[name], select(result.data["highest"], name))
        for kind in np.unique(part["kind"]):
            assert np.array_equal(changes[f"{name}, {kind}"], select(part["change"], kind=kind))
        assert np.array_equal(noise[name], part["noise_accuracy"])
        for source in ("low", "high"):
            of = part["hybrid_share"].sel(source=source)
            assert np.array_equal(hybrid[f"{name}, class of the {source} frequencies"], of)


def test_without_labels_the_layers_are_measured_all_the_same(make_model, digit_images):
    found = compare_models([make_model("vit")], digit_images[0], only=["frequency"])
    result = found.results["frequency"]
    assert "noise_accuracy" not in result.part("vit-0")
    assert result.notes[0] == "no answers under noise: the images have no labels"
    assert len(draw(result, ["vit-0"])) == 2


def test_a_network_without_blocks_has_no_curves_and_no_panel(make_model, digit_images):
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )
    models = [
        make_model("vit"),
        wrap(plain, name="plain", image_size=16, mean=[0.5] * 3, std=[1] * 3),
    ]
    found = compare_models(
        models, digit_images[0][:8], only=["frequency"], settings=Settings(references=False)
    )
    result = found.results["frequency"]
    assert "plain: no curves of layers, since no blocks were found" in result.notes
    names = [model.name for model in models]
    _, curves = draw(result, names)
    assert [axis.get_title(loc="left") for axis in curves.figure.axes] == [names[0], ""]
