"""Whose answers are answers to the classes of the images, and why others are not."""

from types import SimpleNamespace

import pytest

from zoo.study.answers import why_unrated


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["cat", "dog"], ""),
        (["dog", "cat"], "it names the same classes in another order"),
        (["cat", "fox"], "it was trained on other classes than these images show"),
        ([], "the names of its classes are not known"),
    ],
)
def test_a_network_is_rated_on_its_own_classes_in_their_order(names, why):
    model = SimpleNamespace(spec=SimpleNamespace(class_names=names), digest="", module=None)
    network = SimpleNamespace(model=model, trace=SimpleNamespace(output=(2,)))
    found = why_unrated(SimpleNamespace(class_names=("cat", "dog")), network)
    assert found.startswith(why)
    assert bool(found) == bool(why)
