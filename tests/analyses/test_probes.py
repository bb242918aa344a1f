"""Ridge probes against scikit-learn, and what a comparison makes of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.linear_model import Ridge
from torch import nn

from tests.labelled import values
from zoo.analyses import probed_layers, probes
from zoo.analyses.engine import compare_models
from zoo.analyses.probed_layers import regular_places, share_of_read
from zoo.config import Settings
from zoo.measures.replicates import percentile_interval
from zoo.measures.ridge import (
    PENALTIES,
    few_shot_images,
    fit_layers,
    hold_out,
    ridge_probe,
    solve_ridge,
)
from zoo.measures.sampling import stratified_split
from zoo.models.build import build
from zoo.models.files import describe_module
from zoo.models.preprocess import preprocess
from zoo.study.axes import select

few = settings(max_examples=10, deadline=None)
CLASSES = [str(i) for i in range(10)]


def clusters(seed, n=90, d=6, classes=3, spread=1.0):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % classes)
    centres = random.normal(size=(classes, d))
    return centres[labels] + spread * random.normal(size=(n, d)), labels


@pytest.mark.parametrize("shape", [(40, 5), (12, 30)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e3])
def test_all_penalties_are_solved_as_scikit_learn_solves_each(shape, penalty):
    random = np.random.default_rng(0)
    x, y = random.normal(size=shape) + 3, random.normal(size=(shape[0], 4))
    path = solve_ridge(x, y)
    model = Ridge(alpha=penalty).fit(x, y)
    assert np.allclose(path.weights(penalty), model.coef_.T, atol=1e-8)
    new = random.normal(size=(7, shape[1]))
    assert np.allclose(path.predict(new, penalty), model.predict(new), atol=1e-8)


@given(seed=st.integers(0, 1000))
@few
def test_a_probe_is_scikit_learns_ridge_with_the_penalty_chosen_on_held_out_images(seed):
    x, y = clusters(seed, spread=1.5)
    train_x, train_y, test_x, test_y = x[:60], y[:60], x[60:], y[60:]
    found = ridge_probe(train_x, train_y, test_x, test_y, seed=seed)

    def score(fit_x, fit_y, on_x, on_y, penalty):
        centred = fit_x - fit_x.mean(axis=0)
        alpha = penalty * np.linalg.eigvalsh(centred.T @ centred).mean()
        targets = 2 * np.eye(3)[fit_y] - 1
        predicted = Ridge(alpha=alpha).fit(fit_x, targets).predict(on_x).argmax(axis=1)
        return (predicted == on_y).mean()

    fit, judge = hold_out(train_y, 0.2, seed=seed)
    held_out = [
        score(train_x[fit], train_y[fit], train_x[judge], train_y[judge], p) for p in PENALTIES
    ]
    best = max(p for p, s in zip(PENALTIES, held_out, strict=True) if s == max(held_out))
    assert found.penalty == best
    assert found.held_out_accuracy == pytest.approx(max(held_out))
    assert found.accuracy == pytest.approx(score(train_x, train_y, test_x, test_y, best))


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100))
@few
def test_rotation_shift_and_scale_of_features_change_nothing(seed, scale):
    x, y = clusters(seed)
    moved = scale * x @ ortho_group.rvs(x.shape[1], random_state=seed) + 5
    results = [ridge_probe(z[:60], y[:60], z[60:], y[60:]) for z in (x, moved)]
    assert results[0] == results[1]


def test_separable_classes_are_read_perfectly_and_shuffled_labels_are_not():
    x, y = clusters(0, n=400, d=20, classes=4, spread=0.1)
    assert ridge_probe(x[:200], y[:200], x[200:], y[200:]).accuracy == 1
    shuffled = np.random.default_rng(1).permutation(y)
    chance = ridge_probe(x[:200], shuffled[:200], x[200:], shuffled[200:]).accuracy
    assert chance == pytest.approx(0.25, abs=0.1)


def test_classes_need_not_be_counted_from_zero_and_unknown_ones_are_wrong():
    x, y = clusters(0, spread=0.1)
    names = np.array([7, -2, 40])
    assert ridge_probe(x[:60], names[y[:60]], x[60:], names[y[60:]]).accuracy == 1
    assert ridge_probe(x[:60], names[y[:60]], x[60:], np.full(30, 5)).accuracy == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (np.ones_like(x), y), "features are constant"),
        (lambda x, y: (np.where(x > 1, np.nan, x), y), "features are not finite"),
        (lambda x, y: (x, np.zeros_like(y)), "two classes with two training images"),
        (lambda x, y: (x[:3], np.arange(3)), "two classes with two training images"),
    ],
)
def test_what_cannot_be_probed_is_named(change, words):
    x, y = change(*clusters(0))
    with pytest.raises(ValueError, match=words):
        ridge_probe(x, y, x, y)


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
@few
def test_a_split_divides_every_class_alike_and_loses_no_image(counts, share, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    first, second = hold_out(labels, share, seed=seed)
    assert sorted([*first, *second]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        part = int((labels[second] == label).sum())
        assert abs(part - share * count) <= 1
        assert (1 <= part < count) if count > 1 else part == 0


def test_few_shot_images_are_so_many_of_each_class_or_all():
    labels = np.array([0] * 20 + [1] * 5 + [2] * 12)
    chosen = few_shot_images(labels, 10, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [10, 5, 10]
    assert len(set(chosen.tolist())) == 25
    assert chosen.tolist() != few_shot_images(labels, 10, seed=1).tolist()


def test_layers_are_probed_on_separate_images_and_a_dead_layer_is_named():
    x, y = clusters(0, n=200, spread=0.5)
    train = {"good": x[:100], "noise": np.random.default_rng(0).normal(size=(100, 3))}
    train["dead"] = np.zeros((100, 4))
    test = {"good": x[100:], "noise": np.random.default_rng(1).normal(size=(100, 3))}
    test["dead"] = np.zeros((100, 4))
    found = fit_layers(train, y[:100], test, y[100:])
    assert list(found) == ["good", "noise", "dead"]
    assert found["good"].all == ridge_probe(x[:100], y[:100], x[100:], y[100:])
    assert found["good"].all.accuracy > 0.9
    assert found["noise"].all.accuracy < 0.6
    shots = []
    for draw in range(3):
        rows = few_shot_images(y[:100], 10, seed=draw)
        shots.append(ridge_probe(x[rows], y[rows], x[100:], y[100:]).accuracy)
    assert found["good"].few_shot == pytest.approx(np.mean(shots))
    assert (found["dead"].all, found["dead"].problem) == (None, "features are constant")
    with pytest.raises(ValueError, match="expected the same layers"):
        fit_layers(train, y[:100], {"good": x[100:]}, y[100:])


@given(height=st.integers(1, 30), width=st.integers(1, 30), most=st.integers(1, 64))
@few
def test_places_lie_regularly_on_the_grid_and_are_no_more_than_asked(height, width, most):
    rows, columns = regular_places(height, width, most)
    assert 1 <= len(rows) * len(columns) <= most
    assert rows[-1] < height
    assert columns[-1] < width
    if height * width <= most:
        assert (list(rows), list(columns)) == (list(range(height)), list(range(width)))


def run(models, images, labels):
    return compare_models(
        models,
        images,
        labels,
        class_names=CLASSES,
        only=["probes"],
        settings=Settings(references=False, batch_size=25),
    )


def test_a_comparison_probes_class_token_mean_and_single_tokens(make_model, digit_images):
    images, labels = digit_images
    labels = labels % 3
    model = make_model("vit", "v")
    result = run([model], images, labels).results["probes"]
    assert result.data["pooling"].values.tolist() == ["class token", "mean over places"]
    train, test = stratified_split(labels, 0.5, seed=0)
    with torch.no_grad():
        kept = {}
        handle = model.module.blocks[-1].register_forward_hook(
            lambda m, a, out: kept.update(last=out.numpy())
        )
        model.module.eval()(preprocess(images, model.spec))
        handle.remove()

    def accuracy(x):
        return ridge_probe(x[train], labels[train], x[test], labels[test]).accuracy

    last = kept["last"]
    assert result.metric("cls_last_accuracy", "v") == accuracy(last[:, 0])
    assert result.metric("last_block_mean_accuracy", "v") == accuracy(last[:, 1:].mean(axis=1))
    single = np.array([accuracy(last[:, 1 + t]) for t in range(16)]).reshape(4, 4)
    assert np.array_equal(result.part("v")["token_accuracy"].values, single)
    assert result.metric("single_token_last_mean", "v") == pytest.approx(single.mean())
    # What the classifier reads: the class token. Without a group of test images, all counts change.
    read = ridge_probe(last[train, 0], labels[train], last[test, 0], labels[test]).right
    tokens = np.mean(
        [ridge_probe(x[train], labels[train], x[test], labels[test]).right
         for x in last[:, 1:].swapaxes(0, 1)], axis=0
    )  # fmt: skip
    commonest = labels[test] == np.bincount(labels[train]).argmax()

    def share(images):
        one, whole, chance = (x[images].mean() for x in (tokens, read, commonest))
        with np.errstate(divide="ignore"):  # a small network may know nothing
            return (one - chance) / (whole - chance)

    found = select(result.data["single_token_share"], "v").values
    assert found[-1] == pytest.approx(share(slice(None)))
    assert np.isnan(found[:-1]).all()
    without = select(result.data["single_token_share_without"], "v").values[:, -1]
    assert len(without) == len(test) == 30  # so few images are each a group
    for image, value in enumerate(without):
        assert value == pytest.approx(share(np.arange(30) != image), rel=1e-5)
    every = values(result, "accuracy", "v")
    assert result.metric("best_layer_accuracy", "v") == np.nanmax(every)
    assert result.metric("middle_accuracy", "v") == every[1, 1]
    assert np.isnan(every[0, 0])
    assert "v: stem, class token: no probe, since features are constant" in result.notes
    fewest = np.bincount(labels[train]).min()
    noted = any(note.endswith(f"the fewest {fewest}") for note in result.notes)
    assert noted == (fewest < 10)


@pytest.mark.slow
def test_intervals_of_what_single_tokens_know_hold_the_truth_in_95_percent_of_trials():
    # Two networks whose probes err on the same hard images: 16 tokens, what is read, and chance.
    def probed(random, n, ease):
        hard = random.normal(size=n)
        read = hard + 0.5 * random.normal(size=n) < ease
        tokens = (hard[:, None] + random.normal(size=(n, 16)) < ease - 0.8).mean(axis=1)
        return tokens, read

    def difference(seed, n):
        random = np.random.default_rng(seed)
        chance = random.random(n) < 0.1
        shares = [share_of_read(*probed(random, n, ease), chance) for ease in (1.2, 0.6)]
        return shares[0].draws() - shares[1].draws()

    truth = difference(0, 400_000)[0]
    ends = [percentile_interval(difference(seed, 180)) for seed in range(1, 601)]
    held = np.mean([low <= truth <= high for _, low, high in ends])
    assert held == pytest.approx(0.95, abs=0.02)


class ColourNet(nn.Module):
    """One block halves the resolution; the class can be read off the left places only."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 3, 1))])
        self.pool = nn.AvgPool2d(8)
        self.fc = nn.Linear(3, 10)

    def forward(self, x):
        return self.fc(self.pool(x).mean(dim=(2, 3)))


def test_single_places_of_a_cnn_show_where_the_class_is():
    random = np.random.default_rng(0)
    labels = np.arange(80) % 4
    images = random.integers(0, 60, size=(80, 16, 16, 3), dtype=np.uint8)
    for i, label in enumerate(labels):
        images[i, :, :8] = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]])[label]
    model = describe_module(ColourNet(), name="c", image_size=16)
    found = run([model], images, labels)
    result = found.results["probes"]
    tokens = result.part("c")["token_accuracy"].values
    assert tokens.shape == (2, 2)
    assert np.array_equal(tokens[:, 0], [1, 1])
    assert (tokens[:, 1] < 0.6).all()
    assert result.metric("best_layer_accuracy", "c") == 1
    assert result.metric("cls_last_accuracy", "c") is None
    assert result.metric("chance") == 0.25
    # Four places are no map.
    assert [drawing.kind for drawing in probes.draw(result, ["c"])] == ["probes-layers"]
    assert result.notes == (
        "c: no map of single tokens, since only 2 × 2 places of the last block are probed",
    )


def test_figures_are_drawn_from_the_result_alone(make_model, digit_images):
    images, labels = digit_images
    torch.manual_seed(0)
    mixer = build("mixer", classes=10, image_size=16, embed_dim=16, num_blocks=2)
    models = [make_model("vit", "v"), describe_module(mixer, name="m", image_size=16)]
    result = run(models, images, labels % 3)
    layers, tokens = probes.draw(result.results["probes"], ["v", "m"])
    assert (layers.kind, tokens.kind) == ("probes-layers", "probes-tokens")
    drawn = [line.get_label() for line in layers.figure.axes[0].get_lines()]
    assert drawn[:3] == ["v, class token", "v, mean over places", "m, mean over places"]
    map_of_v = tokens.figure.axes[0].get_images()[0].get_array()
    # The picture's origin is below, the grid's first row above.
    assert np.array_equal(
        map_of_v[::-1], result.results["probes"].part("v")["token_accuracy"].values
    )


def test_the_legend_names_a_model_and_its_seeds_in_full(make_model, digit_images):
    images, labels = digit_images
    name = "vit-cct-mimetic-schedule-n5000"
    models = [make_model("vit", name), make_model("vit", "v", seed=1)]
    found = compare_models(
        models[:1], images, labels % 3, only=["probes"], siblings=[(0, models[1])]
    )
    (layers, *_) = probes.draw(found.results["probes"], [name])
    figure = layers.figure
    shown = figure.legends[0]
    assert f"{name} (2 seeds), class token" in [text.get_text() for text in shown.get_texts()]
    figure.draw_without_rendering()
    assert shown.get_window_extent().width <= figure.bbox.width


def test_without_labels_or_enough_images_of_two_classes_it_does_not_apply(make_model, digit_images):
    images, _ = digit_images
    model = make_model("vit", "v")
    assert "no labels" in run([model], images, None).not_applicable["probes"]
    one_each = np.arange(len(images)) // 3
    reason = run([model], images, one_each).not_applicable["probes"]
    assert reason.endswith("half to fit and half to test, and there are 0")


def test_small_classes_and_too_many_images_are_left_out_and_noted(
    make_model, digit_images, monkeypatch
):
    images, _ = digit_images
    monkeypatch.setattr(probes, "MAX_IMAGES", 50)
    monkeypatch.setattr(probed_layers, "MAX_TOKENS", 5)
    labels = np.array([0] * 28 + [1] * 30 + [2] * 2)
    result = run([make_model("vit", "v")], images, labels).results["probes"]
    assert "probed on 50 of 60 images, drawn at random" in result.notes
    assert "classes left out, since they have fewer than 4 images: 1 of 3" in result.notes
    assert "v: 4 of 16 places of the last block are probed, evenly spread" in result.notes
    assert result.part("v")["token_accuracy"].values.shape == (2, 2)
    assert result.data.attrs["fit_images"] + result.data.attrs["test_images"] <= 50
