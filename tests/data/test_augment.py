import random

import numpy as np
import pytest
import torch
from torch.nn import functional

from zoo.config import TrainConfig
from zoo.data.augment import Augmentation, random_crop_flip
from zoo.errors import UserError

IMAGES = torch.randint(256, (20, 8, 8, 3), dtype=torch.uint8, generator=torch.manual_seed(0))
LABELS = torch.arange(20) % 4


def augmentation(seed=0, **recipe):
    config = TrainConfig(epochs=1, batch_size=20, learning_rate=0.1, **recipe)
    return Augmentation(config, classes=4, mean=[0.5] * 3, image_size=8, seed=seed)


def test_crops_and_flips_differ_from_image_to_image():
    torch.manual_seed(0)
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8, 1).expand(50, 8, 8, 3)
    assert random_crop_flip(images, padding=0, flip=False) is images
    cropped = random_crop_flip(images, padding=2, flip=False)
    assert len(torch.unique(cropped.flatten(1), dim=0)) > 10
    # Undone by hand for each image: some shift of the padded original equals the crop.
    padded = functional.pad(images[0], (0, 0, 2, 2, 2, 2))
    shifts = [padded[i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
    assert all(any(torch.equal(crop, shift) for shift in shifts) for crop in cropped)
    flipped = random_crop_flip(images, padding=0, flip=True)
    mirrored = [torch.equal(f, images[0].flip(1)) for f in flipped]
    assert 10 < sum(mirrored) < 40
    assert all(m or torch.equal(f, images[0]) for m, f in zip(mirrored, flipped, strict=True))


def test_nothing_is_changed_where_nothing_is_asked_for():
    nothing = augmentation()
    x = IMAGES.permute(0, 3, 1, 2).float()
    assert nothing.change_pixels(IMAGES, 0) is IMAGES
    assert nothing.change_input(x, LABELS, 0) == (x, LABELS)


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "original"])
def test_a_policy_draws_by_seed_and_step_alone(policy):
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.rand()
    first = augmentation(augment=policy).change_pixels(IMAGES, 5)
    assert first.shape == IMAGES.shape
    assert first.dtype == torch.uint8
    assert len(torch.unique((first != IMAGES).flatten(1).sum(1))) > 3  # each image its own way
    random.seed(1)
    np.random.seed(1)
    again = augmentation(augment=policy)
    again.change_pixels(IMAGES, 4)
    assert torch.equal(again.change_pixels(IMAGES, 5), first)
    # Nobody else's draws are moved.
    assert (random.random(), np.random.rand()) == expected
    assert not torch.equal(again.change_pixels(IMAGES, 6), first)
    assert not torch.equal(augmentation(seed=1, augment=policy).change_pixels(IMAGES, 5), first)


@pytest.mark.parametrize("policy", ["rand-q9-inc1", "orignal", "rand-m2", "v0"])
def test_a_policy_that_timm_has_not_is_named(policy):
    with pytest.raises(UserError, match=rf"train.augment: expected a policy .* got '{policy}'"):
        augmentation(augment=policy)


@pytest.mark.parametrize("policy", ["rand-m10-inc1", "rand-m0-inc1", "original", "v0r", "3a"])
def test_no_magnitude_is_beyond_what_pillow_takes(policy):
    # An operation that keeps no bit of a channel comes about once in 30 images at m10.
    changed = augmentation(augment=policy).change_pixels(IMAGES.repeat(20, 1, 1, 1), 0)
    assert changed.shape == (400, 8, 8, 3)


def test_erasing_replaces_one_rectangle_in_some_images():
    x = torch.full((40, 3, 16, 16), 9.0)
    labels = torch.zeros(40, dtype=torch.long)
    erased, same = augmentation(random_erasing=0.5).change_input(x.clone(), labels, 0)
    assert same is labels
    changed = (erased != 9.0).any(dim=1)
    assert 10 < changed.flatten(1).any(dim=1).sum() < 30
    for hole in changed[changed.flatten(1).any(dim=1)]:
        rows, columns = hole.any(dim=1).nonzero(), hole.any(dim=0).nonzero()
        assert hole.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert 0.02 * 256 * 0.5 <= hole.sum() <= 256 / 3 * 1.2


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_mixed_by_the_share_of_the_pixels(kind):
    # Images of one value a class, so that a mixed image's mean tells its shares.
    values = torch.tensor([0.0, 1.0, 10.0, 100.0])
    x = values[LABELS].view(-1, 1, 1, 1).expand(-1, 3, 8, 8).clone()
    torch.manual_seed(0)
    mixed, labels = augmentation(**{kind: 1.0}).change_input(x, LABELS, 0)
    assert labels.shape == (20, 4)
    torch.testing.assert_close(labels.sum(1), torch.ones(20))
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), labels @ values)
    assert (labels > 0).sum(1).max() == 2


def test_with_both_alphas_a_batch_is_mixed_one_way_or_the_other():
    x = torch.randn(20, 3, 8, 8)
    both = augmentation(mixup=1.0, cutmix=1.0)
    torch.manual_seed(0)
    # Where a part is cut from another image, every pixel is some image's own.
    kept = [torch.isin(both.change_input(x, LABELS, 0)[0], x).all().item() for _ in range(20)]
    assert 3 < sum(kept) < 17
