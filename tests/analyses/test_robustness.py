"""What networks keep of their accuracy, against passes made by hand."""

import numpy as np
import pytest
import timm
import torch

import zoo
from zoo.analyses.class_maps import rollout_maps
from zoo.analyses.engine import compare_models
from zoo.analyses.robustness import SHARES, draw
from zoo.claims import judge
from zoo.config import Settings
from zoo.measures.corruptions import corrupt
from zoo.measures.intervals import mean_interval, ratio_values
from zoo.models.predict import probabilities
from zoo.models.preprocess import preprocess
from zoo.study.attention_layers import attending_networks
from zoo.study.axes import select
from zoo.study.prepare import prepare_study

CLASSES = [str(i) for i in range(10)]


@pytest.fixture(scope="module")
def compared(make_model, digit_images):
    models = [make_model("vit"), make_model("resnet18", seed=1)]
    images = digit_images[0][:24]
    # Classes that one or the other answers, so that both have an accuracy to lose.
    answers = [probabilities(model, images).argmax(axis=1) for model in models]
    labels = np.where(np.arange(24) % 2, *answers)
    found = compare_models(
        models, images, labels, class_names=CLASSES, only=["robustness"],
        settings=Settings(references=False),
    )  # fmt: skip
    return models, labels, found


@pytest.mark.parametrize(("kind", "strength"), [("contrast", 5), ("gaussian noise", 3)])
def test_kept_accuracy_is_that_on_corrupted_images_over_that_on_whole_ones(
    compared, digit_images, kind, strength
):
    models, labels, found = compared
    result, images = found.results["robustness"], digit_images[0][:24]
    for model in models:
        clean = probabilities(model, images).argmax(axis=1) == labels
        changed = corrupt(images, kind, strength, seed=0)
        right = probabilities(model, changed).argmax(axis=1) == labels
        kept = select(result.data["kept"].sel(network=model.name), kind=kind, amount=strength)
        assert float(kept.squeeze()) == pytest.approx(right.mean() / clean.mean())
        assert float(result.data["clean_accuracy"].sel(network=model.name)) == clean.mean()


def test_patches_of_the_vit_go_in_the_order_of_its_attention(compared):
    result = compared[2].results["robustness"]
    assert "patches and their order by attention are those of vit-0" in result.notes
    pictures = result.data["example"]
    whole = select(pictures, kind="jpeg", amount=1).squeeze("change").values

    def dropped(kind, share):
        picture = select(pictures, kind=kind, amount=share).squeeze("change").values
        black = picture.reshape(4, 4, 4, 4, 3).max(axis=(1, 3, 4)) == 0
        assert black.sum() >= round(16 * share)
        return black | (whole.reshape(4, 4, 4, 4, 3).max(axis=(1, 3, 4)) < 20)

    for kind in ("random patches", "most attended", "least attended"):
        blacks = [dropped(kind, share) for share in SHARES]
        assert (blacks[0] <= blacks[1]).all()
        assert (blacks[1] <= blacks[2]).all()
    assert (dropped("most attended", 0.5) | dropped("least attended", 0.5)).all()


def test_the_most_and_the_least_attended_patches_are_those_of_the_rollout(compared, digit_images):
    (vit, _), _, found = compared
    images = digit_images[0][:24]
    study = prepare_study([vit], images, None, (), (), Settings(references=False), "cpu")
    network, attending = study.networks[0], attending_networks(study)[0]
    attention = rollout_maps(network, attending, preprocess(images[:1], vit.spec))[0, -1]
    order = attention.flatten().argsort(descending=True).tolist()
    pictures = found.results["robustness"].data["example"]
    expected = []
    for kind, gone in (("most attended", order[:4]), ("least attended", order[-4:])):
        expected.append(images[0].copy())
        for patch in gone:
            y, x = 4 * (patch // 4), 4 * (patch % 4)
            expected[-1][y : y + 4, x : x + 4] = 0
        picture = select(pictures, kind=kind, amount=0.25).squeeze("change")
        assert np.array_equal(picture, expected[-1])
    assert not np.array_equal(*expected)


def test_means_are_over_amounts_and_pairs_are_on_the_same_images(compared):
    models, _, found = compared
    result = found.results["robustness"]
    for kind, measure in (("shuffled tiles", "kept_shuffled_tiles"), ("jpeg", "kept_jpeg")):
        means = [
            float(select(result.data["kept"].sel(network=m.name), kind=kind).mean()) for m in models
        ]
        for model, mean in zip(models, means, strict=True):
            assert result.metric(measure, model.name) == pytest.approx(mean)
        difference = result.metric(f"{measure}_difference", *[m.name for m in models])
        assert difference == pytest.approx(means[0] - means[1])


def test_the_interval_of_a_ratio_is_the_bootstraps():
    random = np.random.default_rng(0)
    clean = random.random(400) < 0.7
    right = clean & (random.random(400) < 0.6)
    value, low, high = mean_interval(ratio_values(right, clean))
    assert value == pytest.approx(right.sum() / clean.sum())
    rows = random.integers(0, 400, size=(4000, 400))
    drawn = right[rows].sum(axis=1) / clean[rows].sum(axis=1)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([low, high], abs=0.006)
    assert np.isnan(ratio_values(right, np.zeros(400))).all()


def test_claims_and_figures(compared):
    models, _, found = compared
    result = found.results["robustness"]
    verdicts = {v.claim.id: v for v in judge(found) if v.claim.analysis == "robustness"}
    names = [m.name for m in models]
    for claim, kind in (("N-dropped", "random_patches"), ("N-shuffled", "shuffled_tiles")):
        metric = result.find(f"kept_{kind}_difference", *names)
        assert verdicts[claim].measurement.estimate == (metric.value, metric.low, metric.high)
    curves, examples = draw(result, names)
    assert [axis.get_title(loc="left") for axis in curves.figure.axes][:4] == [
        "random patches", "most attended", "least attended", "shuffled tiles",
    ]  # fmt: skip
    titles = [axis.get_title(loc="left") for axis in curves.figure.axes][4:]
    assert titles == [
        "Gaussian noise", "Gaussian blur", "lower contrast", "pixelation", "JPEG compression",
    ]  # fmt: skip
    # A curve and what guessing would keep of each, and 1.
    assert len(curves.figure.axes[0].lines) == 5
    for axis, kind in zip(
        curves.figure.axes, dict.fromkeys(result.data["kind"].values), strict=True
    ):
        lines = {line.get_label().partition(" ")[0]: line.get_ydata() for line in axis.lines}
        for name in names:
            kept = select(result.data["kept"].sel(network=name), kind=kind)
            assert lines[name] == pytest.approx([1, *kept.values])
    legend = [text.get_text() for text in curves.figure.legends[0].get_texts()]
    assert legend[2:] == ["as on unchanged images", "by guessing"]
    # The axis that all share ends above every band.
    bands = [band.get_datalim(axis.transData).y1 for axis in curves.figure.axes
             for band in axis.collections]  # fmt: skip
    assert curves.figure.axes[0].get_ylim()[1] >= max(bands)
    assert examples.kind == "robustness-examples"


def test_what_guessing_keeps_stands_beside_what_is_kept(compared):
    """A network that is right half as often keeps twice as much of it by guessing."""
    models, labels, found = compared
    result = found.results["robustness"]
    commonest = np.bincount(labels).max() / len(labels)
    levels = {line.get_ydata()[0] for line in draw(result, [models[0].name])[0].figure.axes[0].lines
              if line.get_linestyle() == "--"}  # fmt: skip
    guessing = [result.metric("kept_by_guessing", model.name) for model in models]
    clean = result.data["clean_accuracy"].values
    assert guessing == pytest.approx(commonest / clean)
    assert [*levels] == [pytest.approx(guessing[0])]


def test_without_a_vit_patches_go_at_random_alone(make_model, digit_images):
    found = compare_models(
        [make_model("resnet18")], digit_images[0][:8], digit_images[1][:8],
        class_names=CLASSES, only=["robustness"], settings=Settings(references=False),
    )  # fmt: skip
    result = found.results["robustness"]
    assert "no patches are dropped by attention, since no model attends" in result.notes
    assert "most attended" not in result.data["kind"].values


def test_a_vit_whose_patches_are_not_square_drops_its_own(digit_images):
    torch.manual_seed(0)
    module = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=(2, 4), embed_dim=16, depth=1, num_heads=2,
        num_classes=10,
    )  # fmt: skip
    vit = zoo.wrap(module, name="vit", image_size=16, class_names=CLASSES)
    images = digit_images[0][:8]
    labels = probabilities(vit, images).argmax(axis=1)
    result = compare_models([vit], images, labels, class_names=CLASSES, only=["robustness"])
    kept = select(result.results["robustness"].data["kept"], kind="most attended").squeeze()
    assert np.isfinite(kept).all()  # eight rows of four patches: no square number of them
