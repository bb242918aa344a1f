from dataclasses import replace

import numpy as np
import pytest

from tests.claims.made import CNN, LARGER, LESS_AND_MORE, VIT, cka, network, verdicts
from zoo.claims import cases

MORE_CNN = network("d", "cnn", "t", 400)


def groups(models, claim, **results):
    return {names for name, names in verdicts(models, **results) if name == claim}


def test_a_vit_is_held_against_a_cnn_of_other_images_only_where_none_is_of_the_same():
    assert groups([VIT, CNN, MORE_CNN], "R-uniform") == {("v", "c")}
    assert groups([VIT, MORE_CNN], "R-uniform") == {("v", "d")}
    more = network("w", "vit", "t", 400)
    assert groups([VIT, more, CNN, MORE_CNN], "R-uniform") == {("v", "c"), ("w", "d")}


@pytest.mark.parametrize("change", [{"kwargs": '{"depth": 2}'}, {"image_size": 8}, {"source": "x"}])
def test_the_same_vit_on_more_data_is_the_same_in_all_else(change):
    more = network("w", "vit", "t", 400)
    assert groups([VIT, more], "Z-attention") == {("v", "w")}
    other = replace(more, **change)
    assert groups([VIT, other], "Z-attention") == {()}


def test_a_larger_vit_is_held_against_a_smaller_one_on_the_same_less_and_more_data():
    for models in ([*LESS_AND_MORE, *LARGER], [*LARGER, *LESS_AND_MORE][::-1]):
        assert groups(models, "R-size-data") == {("x", "y", "v", "w")}
    less, more = LARGER
    other_data = [less, replace(more, subset_digest="u")]
    assert groups([*LESS_AND_MORE[:2], *other_data], "R-size-data") == {()}


@pytest.mark.parametrize(
    "change", [{"parameters": 2 * 10**7}, {"class_token": False}, {"image_size": 32}]
)
def test_vits_of_two_sizes_differ_by_more_than_twice_and_in_size_alone(change):
    others = [replace(one, **change) for one in LARGER]
    assert groups([*LESS_AND_MORE[:2], *others], "R-size-data") == {()}


def test_of_three_sizes_every_two_are_compared():
    largest = [
        replace(one, name=one.name * 2, kwargs='{"depth": 24}', parameters=9 * 10**7)
        for one in LARGER
    ]
    assert groups([*LESS_AND_MORE[:2], *LARGER, *largest], "R-size-data") == {
        ("x", "y", "v", "w"),
        ("xx", "yy", "v", "w"),
        ("xx", "yy", "x", "y"),
    }


def test_a_shared_start_is_said():
    more = network("w", "vit", "t", 400)
    result = cka({("v", "w"): np.eye(7) * 0.5})
    found = verdicts([VIT, more], cka=result)["R-low-agree", ("v", "w")]
    assert "start from the same weights" in found.detail
    found = verdicts([VIT, replace(more, seed=1)], cka=result)["R-low-agree", ("v", "w")]
    assert "start" not in found.detail


def test_published_weights_of_one_network_are_on_less_and_more_data():
    def published(name, source, images):
        return network(name, "vit", "", images, arch="timm:vit", source=source)

    less, more = published("a", "in1k", 1_281_167), published("b", "in21k", 14_197_122)
    ours = network("c", "vit", arch="timm:vit")  # of another kind of images: no such pair
    assert list(cases.vit_on_less_and_more([more, less, ours])) == [(less, more)]
    assert list(cases.vits_on_most_data([more, less])) == [(more,)]
    small = [
        replace(one, name=f"{one.name}s", arch="timm:s", parameters=10**6) for one in (less, more)
    ]
    sized = cases.two_sizes_of_vit_on_less_and_more([*small, more, less, ours])
    assert list(sized) == [(less, more, *small)]
    result = cka({("a", "b"): np.eye(7) * 0.5})
    assert "start" not in verdicts([less, more], cka=result)["R-low-agree", ("a", "b")].detail
