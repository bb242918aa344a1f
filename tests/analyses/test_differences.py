"""Where networks differ, against their answers and features taken by hand."""

import numpy as np
import pytest
import torch
import xarray as xr

from zoo.analyses.differences import SHOWN, _thumbnails, draw, is_shown, shown_groups
from zoo.analyses.differences_figures import _answers
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.measures.agreement import error_consistency_interval
from zoo.measures.difference_groups import STABLE, difference_groups, neighbour_ranks
from zoo.models.predict import probabilities

CLASSES = [str(i) for i in range(10)]
ALONE = Settings(references=False)


@pytest.fixture(scope="module")
def compared(make_model, digit_images):
    models = [make_model("vit"), make_model("resnet18", seed=1)]
    found = compare_models(
        models, *digit_images, class_names=CLASSES, only=["differences"], settings=ALONE
    )
    return models, found.results["differences"]


def pair(data, a, b):
    return data.isel(pair=int(np.flatnonzero((data.network == a) & (data.network_b == b))[0]))


def test_the_gallery_holds_those_farthest_apart_of_each_kind(compared, digit_images):
    models, result = compared
    images, labels = digit_images
    chance = [probabilities(model, images) for model in models]
    right = [p.argmax(axis=1) == labels for p in chance]
    own = [p[np.arange(60), labels] for p in chance]
    kinds = {
        ("vit-0", "resnet18-1", "only the first"): right[0] & ~right[1],
        ("resnet18-1", "vit-0", "only the first"): right[1] & ~right[0],
        ("vit-0", "resnet18-1", "both"): right[0] & right[1],
        ("vit-0", "resnet18-1", "neither"): ~right[0] & ~right[1],
    }
    for (a, b, kind), of_kind in kinds.items():
        found = pair(result.data, a, b).sel(kind=kind)
        assert float(found["gallery_images"]) == of_kind.sum()
        shown = found["gallery"].values
        shown = shown[shown >= 0]
        assert len(shown) == min(SHOWN, of_kind.sum())
        apart = np.abs(own[0] - own[1])
        assert of_kind[shown].all()
        assert np.allclose(apart[shown], np.sort(apart[of_kind])[::-1][:SHOWN], atol=1e-6)
        for i in shown:
            assert np.array_equal(result.data["pictures"].sel(picture=i), images[i])
    assert result.metric("error_consistency", "vit-0", "resnet18-1") == pytest.approx(
        error_consistency_interval(*right)[0]
    )
    assert result.metric("only_first", "vit-0", "resnet18-1") == (right[0] & ~right[1]).mean()
    assert (result.data["confusion"].sum("answered") == np.bincount(labels)).all()


def test_groups_are_those_of_the_last_blocks_mean_features(compared, digit_images):
    (vit, cnn), result = compared
    features = []
    with torch.no_grad():
        for model in (vit, cnn):
            seen = []
            block = model.module.blocks[-1] if model is vit else model.module.layer4[-1]
            hook = block.register_forward_hook(lambda m, a, out, seen=seen: seen.append(out))
            model(digit_images_input(model, digit_images[0]))
            hook.remove()
            features.append(seen[0][:, 1:].mean(1) if model is vit else seen[0].mean((2, 3)))
    a, b = (neighbour_ranks(f.numpy()) for f in features)
    expected = difference_groups(a, b, groups=8, seed=0)
    found = pair(result.data, "vit-0", "resnet18-1")
    assert found["group_size"].values.tolist() == [len(g.images) for g in expected]
    assert np.allclose(found["group_near"], [g.near for g in expected], atol=1e-3)
    assert np.allclose(found["group_stability"], [g.stability for g in expected])
    for g, group in enumerate(expected):
        members = found["group_members"][g].values
        assert set(members[members >= 0]) <= set(group.images)


def digit_images_input(model, images):
    from zoo.models.preprocess import model_input

    return model_input(images, model.spec, model.module)


def test_only_stable_groups_that_differ_are_shown_and_counted(compared):
    _, result = compared
    assert is_shown(STABLE, 0.1, 0.4)
    assert not is_shown(STABLE - 0.01, 0.1, 0.4)
    assert not is_shown(0.9, 0.4, 0.3)
    for a, b in (("vit-0", "resnet18-1"), ("resnet18-1", "vit-0")):
        shown = shown_groups(result, a, b)
        assert (shown["group_stability"] >= STABLE).all()
        assert shown.sizes["group"] == min(3, result.metric("stable_groups", a, b))


def test_figures_say_how_many_images_there_are(compared, digit_images):
    _, result = compared
    drawn = draw(result, ["vit-0", "resnet18-1"])
    assert [d.kind for d in drawn] == [
        "differences-gallery-{}", "differences-groups-{}", "differences-confusion",
    ]  # fmt: skip
    texts = [text.get_text() for text in drawn[0].figure.axes[0].texts]
    count = float(pair(result.data, "vit-0", "resnet18-1")["gallery_images"].sel(kind="both"))
    assert f"both are right: {count:.0f} of 60 images ({100 * count / 60:.0f} %)" in texts
    # Of all images of a class, a row of the confusion's map.
    counts = result.data["confusion"].sel(rated="vit-0").values
    shown = drawn[2].figure.axes[0].get_images()[0].get_array()
    np.testing.assert_allclose(shown, counts / np.bincount(digit_images[1])[:, None])


def test_a_caption_holds_the_class_and_the_wrong_answers():
    answers = np.array([[0, 1, 1, 0], [1, 0, 1, -1]])
    data = xr.Dataset(
        {"answer": (("rated", "image"), answers)},
        {"rated": ["a", "b"], "class": ["cat", "dog"], "label": ("image", [0, 0, 1, 1])},
    )
    captions = [_answers(data, image, "a", "b") for image in range(4)]
    assert captions == ["cat\ndog", "cat\ndog", "dog", "dog\ncat\nnone"]


def test_without_labels_groups_alone_are_found_and_one_model_has_none(make_model, digit_images):
    models = [make_model("vit"), make_model("resnet18", seed=1)]
    found = compare_models(models, digit_images[0], only=["differences"], settings=ALONE)
    result = found.results["differences"]
    assert "gallery" not in result.data
    assert result.notes == ("no answers to compare: the images have no labels",)
    assert [d.kind for d in draw(result, ["vit-0", "resnet18-1"])] == ["differences-groups-{}"]
    alone = compare_models(models[:1], digit_images[0], only=["differences"], settings=ALONE)
    assert alone.not_applicable == {"differences": "there is one model only"}


def test_large_pictures_are_kept_small():
    images = np.random.default_rng(0).integers(0, 256, (3, 200, 256, 3), dtype=np.uint8)
    assert _thumbnails(images, [2]).shape == (1, 100, 128, 3)
