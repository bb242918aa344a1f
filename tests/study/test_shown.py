"""Which images figures show."""

import numpy as np
import pytest
import torch
from torch import nn

from zoo.config import Settings
from zoo.errors import UserError
from zoo.models.files import describe_module
from zoo.study.prepare import prepare_study
from zoo.study.shown import telling_apart

CLASSES = ["dark", "bright"]
# Brightness of each image, and what it is said to be.
BRIGHTNESS = np.array([10, 60, 90, 110, 160, 250, 200, 30])
LABELS = np.array([0, 0, 0, 1, 1, 1, 0, 1])
IMAGES = np.broadcast_to(BRIGHTNESS[:, None, None, None], (8, 8, 8, 3)).astype(np.uint8)


class Threshold(nn.Module):
    """Says bright above a brightness, the surer the farther from it."""

    def __init__(self, at):
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at / 255))

    def forward(self, x):
        score = 10 * (x.mean(dim=(1, 2, 3)) - self.at)
        return torch.stack([-score, score], dim=1)


def shown(show, thresholds=(100, 70), labels=LABELS, classes=CLASSES, **settings):
    models = [
        describe_module(Threshold(at), name=f"at {at}", image_size=8, class_names=classes)
        for at in thresholds
    ]
    made = Settings(references=False, show=show, **settings)
    names = () if labels is None else CLASSES
    return prepare_study(models, IMAGES, labels, names, (), made, "cpu").shown


def test_by_default_each_network_has_in_turn_the_images_that_it_is_best_at():
    found = shown("apart", shown_images=4)
    scores = 20 * (BRIGHTNESS[:, None] - [100, 70]) / 255 * np.where(LABELS == 1, 1, -1)[:, None]
    chance = (1 / (1 + np.exp(-scores))).T
    best = chance.argmax(axis=0)
    for network in (0, 1):
        own = np.flatnonzero(best == network)
        ordered = own[np.argsort(-np.ptp(chance, axis=0)[own], kind="stable")]
        assert [i for i in found if best[i] == network] == ordered[:2].tolist()
    assert [int(best[i]) for i in found] in ([0, 1, 0, 1], [1, 0, 1, 0])


def test_what_is_not_a_number_or_the_same_for_all_comes_last():
    chance = np.array([[0.5, np.nan, 0.9, 0.1], [0.5, 0.2, 0.1, 0.3]])
    assert telling_apart(chance).tolist() == [2, 3, 0, 1]


def test_images_are_chosen_by_index_class_and_who_is_right():
    assert shown("5, 0,5", shown_images=1) == (5, 0)
    assert shown("class:bright", shown_images=3) == (3, 4, 5)
    assert shown("classes", shown_images=3) == (0, 3, 1)
    # Between the thresholds only the higher one says dark.
    assert shown("only:at 100") == (2,)
    assert shown("only:at 20", thresholds=(100, 20)) == (7,)


def test_without_two_networks_to_tell_apart_it_is_the_first_of_each_class():
    for given in ({"thresholds": (100,)}, {"classes": ["a", "b"]}):
        assert shown("apart", shown_images=3, **given) == (0, 3, 1)
    assert shown("apart", shown_images=3, labels=None) == (0, 1, 2)


@pytest.mark.parametrize(
    ("show", "given", "message"),
    [
        ("8", {}, "show: expected images from 0 to 7, got 8"),
        ("class:cat", {}, "unknown class in show class: 'cat'; valid: bright, dark"),
        ("class:bright", {"labels": np.zeros(8, np.int64)}, "none of the images is of the class"),
        ("class:bright", {"labels": None}, "show: the images have no labels"),
        ("only:c", {}, "unknown model in show only: 'c'; valid: at 100, at 70"),
        ("only:at 70", {}, "at 70 alone is right about none of 8 images"),
        ("only:at 100", {"labels": None}, "cannot tell who is right: the images have no labels"),
        ("only:at 100", {"thresholds": (100,)}, "only at 100 knows the images' classes"),
    ],
)
def test_images_that_are_not_there_are_named(show, given, message):
    with pytest.raises(UserError, match=message):
        shown(show, **given)


@pytest.mark.parametrize("show", ["", "-1", "1;2", "class:", "first", "1,", "only", "99999999999"])
def test_what_cannot_be_read_is_refused_with_what_can(show):
    with pytest.raises(UserError, match=r"show: expected apart, classes, class:NAME, only:MODEL"):
        Settings(show=show)
