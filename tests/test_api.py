"""`zoo.wrap` and `zoo.compare` on networks of one's own."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.data.subsets import load_subset
from zoo.errors import UserError


def small_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 10),
    )  # fmt: skip


def compare(images, *networks, **known):
    models = [
        zoo.wrap(network, name=f"net{i}", image_size=16, **known)
        for i, network in enumerate(networks)
    ]
    return zoo.compare(models, images, only=["cka"])


def test_networks_with_other_weights_make_another_comparison(digit_images):
    images, _ = digit_images
    first, same, other = (
        compare(images, small_network(0), small_network(seed)).report()["digest"]
        for seed in (1, 1, 2)
    )
    assert same == first
    assert other != first


def test_pixels_scaled_another_way_make_another_comparison(digit_images):
    images, _ = digit_images
    plain = compare(images, small_network(0), small_network(1))
    scaled = compare(images, small_network(0), small_network(1), mean=[0.5] * 3)
    assert plain.report()["digest"] != scaled.report()["digest"]
    assert not plain.to_frame().equals(scaled.to_frame())


def test_a_mean_given_as_numpys_numbers_is_a_mean(digit_images):
    images, _ = digit_images
    network = small_network(0)
    known = [{"mean": kind([0.5] * 3), "std": kind([0.25] * 3)} for kind in (list, np.array)]
    plain, numpys = (compare(images, network, small_network(1), **k).to_frame() for k in known)
    assert len(plain) > 0
    assert plain.equals(numpys)


def test_a_bare_network_is_told_how_to_be_compared(digit_images):
    said = "models: expected a reference or zoo.wrap(net, image_size=...), got Sequential; wrap it"
    with pytest.raises(UserError, match=re.escape(said)):
        zoo.compare([small_network(0)], digit_images[0])


def test_labels_below_zero_are_named(digit_images):
    model = zoo.wrap(small_network(0), image_size=16, class_names=[str(i) for i in range(10)])
    labels = np.full(len(digit_images[0]), -1)
    with pytest.raises(UserError, match="labels: expected class indices from 0 on, got -1"):
        compare_models([model], digit_images[0], labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: zoo.load(3), "expected a model's name or folder as text, got int '3'"),
        (
            lambda _: zoo.wrap("x", image_size=8),
            "expected a network to wrap, got str",
        ),
        (
            lambda _: zoo.wrap(small_network(0), image_size=8, classnames=[]),
            "unknown argument of zoo.wrap: 'classnames'; did you mean 'class_names'",
        ),
        (
            lambda _: zoo.wrap(small_network(0), image_size=8, mean=[124, 116, 104]),
            r"means of pixels scaled to 0..1, got .*; divide means and standard",
        ),
        (lambda images: zoo.compare("a", images), "models: expected a list of them, got str"),
        (
            lambda images: compare(images, small_network(0), class_names=["a", "b", "c"]),
            "net0: expected an output for each of its 3 class_names, got 10 outputs; name all",
        ),
        (
            lambda images: compare(images, nn.Sequential(nn.Flatten(), nn.Linear(48, 10))),
            "net0 does not take an image of 16 px .*mat1 and mat2",
        ),
    ],
)
def test_what_python_cannot_take_is_told_as_expected_and_got(digit_images, call, message):
    with pytest.raises(UserError, match=message):
        call(digit_images[0])


def test_one_analysis_may_be_named_without_a_list(digit_images):
    model = zoo.wrap(small_network(0), image_size=16)
    images = digit_images[0][:8]
    assert set(zoo.compare([model], images, only="cka").results.results) == {"cka"}
    with pytest.raises(UserError, match="unknown analysis 'ckaa'"):
        zoo.compare([model], images, skip="ckaa")


def test_labels_count_the_classes_that_models_name(digit_images):
    images = digit_images[0][:20]
    labels = np.arange(20) % 10
    digits, letters = (list(names) for names in ("0123456789", "abcdefghij"))
    nameless, named, other = (
        zoo.wrap(small_network(i), name=str(i), image_size=16, class_names=names)
        for i, names in enumerate(([], digits, letters))
    )
    found = zoo.compare([nameless, named], images, labels, only="accuracy").results
    assert found.class_names == tuple(digits)
    assert found.results["accuracy"].networks == ("1",)
    said = (
        "labels: 1 and 2 name different classes (10: 0, 1, 2, …; 10: a, b, c, …); say which the "
        "labels count: class_names=[...]"
    )
    with pytest.raises(UserError, match=re.escape(said)):
        zoo.compare([named, other], images, labels, only="accuracy")
    found = zoo.compare([named, other], images, labels, class_names=letters, only="accuracy")
    assert found.results.results["accuracy"].networks == ("2",)
    assert zoo.compare([named, other], images, only="cka").results.class_names == tuple(digits)


WRAPPED = {
    "mean": (
        (0.5, "list[float], got float 0.5"),
        ("0.5", "list[float], got str '0.5'"),
        (None, "list[float], got NoneType"),
        ([0.5, "x", 0.5], "float, got str 'x'"),
        ({"r": 0.5}, "list[float], got dict"),
    ),
    "std": ((1, "list[float], got int 1"), ([1, 1, None], "float, got NoneType")),
    "image_size": (
        ("16", "int, got str '16'"),
        (16.0, "int, got float 16.0"),
        ((16, 16), "int, got list"),
        (None, "int, got NoneType"),
    ),
    "class_names": (
        ("cat", "list[str], got str 'cat'"),
        (10, "list[str], got int 10"),
        (range(10), "str, got int 0"),
    ),
    "name": ((3, "str, got int 3"),),
    "kwargs": (([1], "dict[str, typing.Any], got list"),),
}


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [(argument, value, said) for argument, tried in WRAPPED.items() for value, said in tried],
)
def test_an_argument_of_wrap_of_another_type_is_named(argument, value, said):
    place = re.compile(rf"^zoo\.wrap: {argument}(\[\d\])?: expected {re.escape(said)}")
    with pytest.raises(UserError, match=place):
        zoo.wrap(small_network(0), **({"image_size": 16} | {argument: value}))


def test_wrap_takes_the_numbers_of_other_libraries():
    known = {"mean": torch.full((3,), 0.5), "std": [np.float32(0.25)] * 3}
    names = np.array(["a", "b"])
    spec = zoo.wrap(small_network(0), image_size=np.int64(16), class_names=names, **known).spec
    assert (spec.image_size, spec.class_names) == (16, ["a", "b"])
    assert (spec.mean, spec.std) == ([0.5] * 3, [0.25] * 3)
    assert (spec.name, spec.arch) == ("Sequential", "Sequential")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"models": 3}, "models: expected a list of them, got int"),
        ({"images": [[1], [1, 2]]}, "images: expected (n, height, width, 3) uint8, got list: "),
        ({"images": "photos"}, "images: expected (n, height, width, 3) uint8, got () <U6"),
        ({"labels": ["cat"] * 60}, "labels: expected (n,) class indices, whole numbers; got (60,)"),
        ({"labels": [0.5] * 60}, "whole numbers; got (60,) float64"),
        ({"labels": 3}, "whole numbers; got () int64"),
        ({"labels": [[0]] * 60}, "whole numbers; got (60, 1) int64"),
        ({"class_names": "abc"}, "zoo.compare: class_names: expected list[str], got str 'abc'"),
        ({"class_names": range(10)}, "zoo.compare: class_names[0]: expected str, got int 0"),
        ({"only": 3}, "zoo.compare: only: expected list[str], got int 3"),
        ({"skip": [3]}, "zoo.compare: skip[0]: expected str, got int 3"),
        ({"settings": {"batch_size": 4}}, "settings: expected zoo.config.Settings, got dict"),
        ({"images_name": 3}, "zoo.compare: images_name: expected str, got int 3"),
        ({"device": 3}, "unknown device '3'"),
        ({"on_progress": True}, "on_progress: expected a function, got bool"),
    ],
)
def test_an_argument_of_compare_of_another_type_is_named(digit_images, changed, said):
    known = {"models": [zoo.wrap(small_network(0), image_size=16)], "images": digit_images[0]}
    with pytest.raises(UserError, match=re.escape(said)):
        zoo.compare(**(known | {"only": "cka"} | changed))


def test_progress_begins_with_the_pass_and_not_after_its_first_batch(digit_images):
    told = []
    zoo.compare(
        [zoo.wrap(small_network(0), image_size=16)], digit_images[0], only="cka",
        settings=Settings(batch_size=30), on_progress=lambda *said: told.append(said),
    )  # fmt: skip
    counted = [(done, total) for done, total, what in told if what == "images"]
    assert counted == [(0, 60), (30, 60), (60, 60)]


@pytest.mark.parametrize(
    ("odd", "brightest"),
    [
        (np.full((5, 16, 16), 9, np.uint8), 9),
        (np.full((5, 16, 16, 1), 9, np.uint8), 9),
        (np.full((5, 3, 16, 16), 127.6), 128),
        (np.full((5, 16, 16, 3), 0.5), 128),
    ],
    ids=["grey", "one channel", "floats, channels first", "from 0 to 1"],
)
def test_images_of_another_form_are_told_how_to_become_the_expected_one(odd, brightest):
    images = odd
    for _ in range(2):
        with pytest.raises(UserError) as error:
            zoo.compare([zoo.wrap(small_network(0), image_size=16)], images)
        _, code = str(error.value).rsplit(": ", 1)
        images = eval(code, {"np": np, "images": images})
        if images.shape == (5, 16, 16, 3) and images.dtype == np.uint8:
            break
    assert images.shape == (5, 16, 16, 3)
    assert images.dtype == np.uint8
    assert images.max() == brightest


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (np.zeros((16, 16, 3), np.uint8), "several images are expected, not one"),
        (np.full((5, 16, 16, 3), -1.5), "as they were before they were normalised"),
    ],
)
def test_images_that_no_code_can_convert_are_told_what_is_wrong(odd, message):
    with pytest.raises(UserError, match=message):
        zoo.compare([zoo.wrap(small_network(0), image_size=16)], odd)


def test_nothing_to_run_is_no_empty_comparison():
    images = np.zeros((5, 16, 16, 3), np.uint8)
    with pytest.raises(UserError, match="no analysis to run: skip leaves out every one"):
        zoo.compare([zoo.wrap(small_network(0), image_size=16)], images, only="cka", skip="cka")


def test_a_network_of_one_channel_is_told_that_images_have_three():
    grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 10))
    with pytest.raises(UserError, match="does not take an image of 16 px and 3 channels"):
        compare(np.zeros((5, 16, 16, 3), np.uint8), grey)


def numbers(result, network):
    """Every number of one network alone, by analysis and measure."""
    frame = result.to_frame()
    own = frame[(frame.network == network) & (frame.network_b == "")]
    return own.set_index(["analysis", "measure"])["value"].to_dict()


def test_networks_before_training_and_of_other_seeds_stand_beside_ones_own(digit_images):
    first, second, start = map(small_network, range(3))
    known = {"image_size": 16, "class_names": [str(i) for i in range(10)]}
    own_start = zoo.wrap(second, untrained=small_network(3), **known)
    mine = zoo.wrap(first, name="mine", untrained=start, seeds=[own_start], **known)
    only = ["accuracy", "cka"]
    result = zoo.compare([mine], *digit_images, only=only)
    found = {(n.name, n.state, n.seed, n.compared) for n in result.results.networks}
    assert found == {
        ("mine", "trained", 0, True),
        ("mine untrained", "initial", 0, False),
        ("mine seed 1", "trained", 1, False),
        ("mine seed 1 untrained", "initial", 1, False),
    }
    for name, network in (("mine", first), ("mine untrained", start), ("mine seed 1", second)):
        alone = zoo.compare([zoo.wrap(network, name=name, **known)], *digit_images, only=only)
        assert numbers(result, name) == numbers(alone, name)
        assert ("accuracy", "accuracy") in numbers(result, name)
        of_layers = [zoo.select(of["cka"]["cka"], name, name).values for of in (result, alone)]
        np.testing.assert_allclose(*of_layers, atol=1e-12)
    cka = result["cka"]["cka"]
    seeds = zoo.select(cka, model="mine", state="trained", seed=1, state_b="initial", seed_b=0)
    assert seeds.identical(zoo.select(cka, "mine seed 1", "mine untrained"))
    frame = result.to_frame()
    trained = frame[(frame.analysis == "accuracy") & (frame.state == "trained")]
    assert trained[["network", "model", "seed"]].values.tolist() == [
        ["mine", "mine", 0],
        ["mine seed 1", "mine", 1],
    ]
    across = frame[frame.network_b == "mine seed 1"]
    assert set(zip(across.model_b, across.state_b, across.seed_b, strict=True)) == {
        ("mine", "trained", 1)
    }
    classes = result["accuracy"]
    assert zoo.select(classes["class_accuracy"], state="initial").sizes["network"] == 2
    low, high = (classes["class_accuracy_ci"].sel(ci_bound=end) for end in ("lower", "upper"))
    assert (low < high).all()
    bare = zoo.compare([zoo.wrap(first, name="mine", **known)], *digit_images, only=only)
    digests = {r.results.provenance["digest"] for r in (result, bare)}
    assert len(digests) == 2


def test_what_makes_a_network_makes_one_for_each_seed_and_leaves_the_generator_alone():
    made = []

    def make():
        made.append(nn.Linear(3, 10))
        return made[-1]

    own, other = nn.Linear(3, 10), nn.Linear(3, 10)
    state = torch.get_rng_state()
    wrapped = zoo.wrap(own, image_size=16, untrained=make, seeds=[other], seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    starts = [wrapped.untrained, wrapped.seeds[0].untrained]
    assert starts == made
    assert [wrapped.spec.seed, wrapped.seeds[0].spec.seed] == [4, 5]
    for seed, start in zip((4, 5), starts, strict=True):
        torch.manual_seed(seed)
        assert torch.equal(start.weight, nn.Linear(3, 10).weight)
    kept = zoo.wrap(own, image_size=16, untrained=nn.Linear(3, 10))
    again = zoo.wrap(other, image_size=16, untrained=make, seeds=[kept])
    assert again.seeds[0].untrained is kept.untrained


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"untrained": small_network(1), "seeds": [small_network(2)]},
         "untrained of net: expected one for each seed, or none: give what makes the network"),
        ({"untrained": lambda: nn.Linear(3)}, "untrained of net cannot be made (TypeError: "),
        ({"untrained": nn.Linear(3, 10)}, "untrained of net: expected the same network with other "
         "weights, got one that differs in "),
        ({"untrained": "net.pt"}, "untrained of net: expected a network, got str: give a torch.nn"),
        ({"seeds": [nn.Linear(3, 10)]}, "seeds of net: expected the same network"),
        ({"seeds": ["vit-small"]}, "seeds of net: expected a network, got str"),
        ({"seeds": nn.Linear(3, 10)}, "seeds of net: expected a list of networks, got Linear"),
    ],
)  # fmt: skip
def test_another_network_is_not_taken_for_the_same_before_training(given, message):
    with pytest.raises(UserError, match=re.escape(message)):
        zoo.wrap(small_network(0), name="net", image_size=16, **given)


def test_a_network_is_not_its_own_beginning():
    network = small_network(0)
    with pytest.raises(UserError, match="expected another network, got net itself"):
        zoo.wrap(network, name="net", image_size=16, untrained=network)


def test_images_sorted_by_class_are_named_in_the_summary_of_the_saved_result(
    digit_images, tmp_path
):
    images, labels = (np.concatenate([of, of]) for of in digit_images)
    order = np.argsort(labels)
    settings = Settings(batch_size=20)
    models = [zoo.wrap(small_network(seed), name=f"n{seed}", image_size=16) for seed in (0, 1)]
    for chosen, expected in ((order, True), (np.arange(len(labels)), False)):
        result = zoo.compare(models, images[chosen], labels[chosen], only="cka", settings=settings)
        result.save(tmp_path)
        for found in (result, zoo.open_results(tmp_path)):
            assert ("sorted by class, which biases CKA" in found.summary()) == expected


def test_images_that_a_model_was_trained_on_are_told(
    make_model, digits_folder, tmp_path, monkeypatch
):
    small, test = (load_subset(digits_folder / name) for name in ("small", "test"))
    model = make_model("vit", "trained", subset="small", subset_digest=small.info.digest)
    other = make_model("vit", "other", seed=1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "subsets").symlink_to(digits_folder)
    monkeypatch.chdir(tmp_path)

    def told(images):
        found = zoo.compare([other, model], images[:20], only="feature-maps")
        return [said for said in found.report()["cautions"] if "was trained on" in said]

    assert told(np.asarray(small.images)) == [
        "trained was trained on 20 of these 20 images: on new ones it may do worse."
    ]
    assert told(np.asarray(test.images)) == []
