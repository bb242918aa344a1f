"""Stitched networks against passes made by hand with scikit-learn's maps."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from tests.labelled import layers, values
from zoo.analyses import stitching
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.measures.ridge import PENALTIES
from zoo.models.files import describe_module
from zoo.models.predict import probabilities
from zoo.models.preprocess import preprocess
from zoo.study.prepare import prepare_study

CLASSES = [str(i) for i in range(10)]
ALONE = Settings(references=False, batch_size=16, show="classes")


def compare(models, images, labels, classes=CLASSES, settings=ALONE):
    return compare_models(
        models, images, labels, class_names=classes, only=["stitching"], settings=settings
    )


def answered(models, images):
    """Labels that the models answer in turn, so that each has an accuracy to keep."""
    answers = [probabilities(model, images).argmax(axis=1) for model in models]
    return np.choose(np.arange(len(images)) % len(models), answers)


@pytest.fixture(scope="module")
def compared(make_model, digit_images):
    models = [
        make_model("vit", "v"),
        make_model("vit-gap", "g", seed=1),
        make_model("resnet18", "r"),
    ]
    images = digit_images[0][:40]
    labels = answered(models, images)
    return models, images, labels, compare(models, images, labels)


def outputs_of(model, layer, images):
    seen = []
    hook = model.module.get_submodule(layer).register_forward_hook(lambda *a: seen.append(a[2]))
    with torch.no_grad():
        model.module.eval()(preprocess(images, model.spec))
    hook.remove()
    return seen[0]


def test_a_cell_is_the_accuracy_of_a_pass_made_by_hand(compared):
    (v, g, _), images, labels, found = compared
    study = prepare_study([v, g], images, labels, CLASSES, (), ALONE, "cpu")
    plan = stitching.start(study)
    assert not set(plan.tested) & set(plan.fitted)
    x = outputs_of(v, "blocks.0", images)[:, 1:].numpy()
    y = outputs_of(g, "blocks.1", images).numpy()
    rows = plan.fitted[~plan.judging], plan.fitted[plan.judging]
    (fit_x, judge_x), (fit_y, judge_y) = (
        [of[part].reshape(-1, of.shape[-1]).astype(np.float64) for part in rows] for of in (x, y)
    )
    unit = ((fit_x - fit_x.mean(axis=0)) ** 2).sum() / fit_x.shape[1]
    maps = [Ridge(alpha=p * unit, solver="svd").fit(fit_x, fit_y) for p in PENALTIES]
    errors = [((m.predict(judge_x) - judge_y) ** 2).sum() for m in maps]
    best = maps[int(np.argmin(errors))]
    tested = plan.tested
    given = best.predict(x[tested].reshape(-1, x.shape[-1])).reshape(len(tested), 16, -1)
    part = g.module.get_submodule("blocks.1")
    hook = part.register_forward_hook(lambda *_: torch.from_numpy(given).float())
    with torch.no_grad():
        stitched = g.module.eval()(preprocess(images[tested], g.spec)).argmax(dim=1).numpy()
    hook.remove()
    own = probabilities(g, images[tested]).argmax(axis=1) == labels[tested]
    expected = (stitched == labels[tested]).mean() / own.mean()
    result = found.results["stitching"]
    names = layers(result, "v", "kept"), layers(result, "g", "kept")
    at = names[0].index("blocks.0"), names[1].index("blocks.1")
    assert values(result, "kept", "v", "g")[at] == pytest.approx(expected)
    assert result.images == len(tested)


def test_on_its_own_features_at_the_same_block_a_network_keeps_all(compared):
    models, *_, found = compared
    for model in models:
        own = values(found.results["stitching"], "kept", model.name, model.name)
        assert np.diagonal(own) == pytest.approx(1)
    assert found.results["stitching"].notes == ()


def test_metrics_are_means_over_blocks_of_the_same_depth(compared):
    result = compared[-1].results["stitching"]
    kept = values(result, "kept", "v", "g")
    assert kept.shape == (2, 2)
    assert result.metric("kept_same_depth", "v", "g") == pytest.approx(np.diagonal(kept).mean())
    assert result.find("kept_same_depth", "g", "v").value == pytest.approx(
        np.diagonal(values(result, "kept", "g", "v")).mean()
    )
    # Two blocks against three of eight: those at 0.5 and 1 of the depth of each.
    wide = values(result, "kept", "v", "r")
    near = [wide[int(np.abs(np.array([0.5, 1]) - d).argmin()), j]
            for j, d in enumerate(result.data["depth_b"].values[-wide.shape[1] :])]  # fmt: skip
    assert result.metric("kept_same_depth", "v", "r") == pytest.approx(np.mean(near))
    gained = result.find("gained_same_depth", "v", "g")
    assert gained.low <= gained.value <= gained.high
    assert result.metric("kept_same_depth", "v", "v") is None


class Turned(nn.Module):
    """A linear block between two turns: the same network on features in another basis."""

    def __init__(self, before, weight, after):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.first.weight.data, self.second.weight.data = weight @ before, after

    def forward(self, x):
        return self.second(self.first(x))


class Chain(nn.Module):
    """Patches of 4 × 4 pixels, two blocks and a head; `turn` is the basis between the blocks."""

    def __init__(self, turn, short=False):
        super().__init__()
        torch.manual_seed(0)
        first, second, one = torch.randn(6, 6), torch.randn(6, 6), torch.eye(6)
        self.embed, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 10)
        blocks = [Turned(one, first, turn), Turned(torch.linalg.inv(turn), second, one)]
        self.blocks, self.short = nn.ModuleList(blocks), short

    def forward(self, x):
        x = start = self.embed(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head((x + start if self.short else x).mean(dim=1))


def chain(name, turn, **known):
    return describe_module(Chain(turn, **known), name=name, image_size=16, class_names=CLASSES)


def test_features_in_another_basis_are_all_that_a_network_needs(digit_images):
    images = digit_images[0][:40]
    turn = torch.linalg.qr(torch.randn(6, 6))[0] * torch.tensor([1, 2, 3, 1, 1, 1.0])
    models = [chain("a", torch.eye(6)), chain("b", turn)]
    result = compare(models, images, answered(models, images)).results["stitching"]
    assert values(result, "kept", "a", "b") == pytest.approx(1)
    assert values(result, "kept", "b", "b") == pytest.approx(1)
    assert result.notes == ()


def test_a_network_that_reads_more_than_a_block_is_not_continued(digit_images):
    images = digit_images[0][:40]
    models = [chain("a", torch.eye(6)), chain("s", torch.eye(6), short=True)]
    result = compare(models, images, answered(models, images)).results["stitching"]
    assert result.notes == (
        "s: not continued from blocks.0, blocks.1: later layers read more than this block's output",
    )
    assert set(result.data["network_b"].values) == {"a"}
    assert set(result.data["network"].values) == {"a", "s"}


def test_untrained_networks_are_read_beside_and_figures_drawn(make_model, digit_images):
    models = [make_model("vit", "v"), make_model("vit-gap", "g", seed=1)]
    images = digit_images[0][:24]
    found = compare(models, images, answered(models, images), settings=Settings(show="classes"))
    result = found.results["stitching"]
    assert set(result.data["network"].values) == {"v", "g", "v untrained", "g untrained"}
    assert np.isfinite(values(result, "kept", "v untrained", "g")).all()
    assert np.isnan(values(result, "kept", "v untrained", "v")).all()
    (drawing,) = stitching.draw(result, ["v", "g"])
    titles = [axis.get_title(loc="left").split("\n")[0] for axis in drawing.figure.axes[:6]]
    assert titles == ["A: v", "A = B: g", "A: v untrained", "A: g", "A = B: v", "A: g untrained"]
    written = [float(text.get_text()) for text in drawing.figure.axes[0].texts]
    assert written == pytest.approx(values(result, "kept", "v", "g").ravel(), abs=0.006)


def test_where_it_does_not_apply_it_says_why(make_model, digit_images):
    images, labels = digit_images[0][:16], digit_images[1][:16]
    v = make_model("vit", "v")
    flat = describe_module(
        nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), name="flat", image_size=16,
        class_names=CLASSES,
    )  # fmt: skip
    for models, of, message in (
        ([v], labels, "there is one model only"),
        ([v, flat], None, "the images have no labels"),
        ([v, flat], labels, "flat: not stitched: no block's output lies over the image"),
    ):
        names = CLASSES if of is not None else ()
        found = compare(models, images, of, classes=names)
        assert found.not_applicable["stitching"] == message
