"""Answers on changed images, of a network that reads their mean and of one that sees the noise."""

import numpy as np
import pytest
import torch
from torch import nn

from zoo.analyses.frequency_answers import BANDS, CUTS, DEVIATION, answers_on_changed_images
from zoo.config import Settings
from zoo.models.files import describe_module
from zoo.study.prepare import prepare_study

CLASSES = ["dark", "bright"]
LABELS = np.arange(20) % 2
IMAGES = np.random.default_rng(0).integers(0, 60, size=(20, 8, 8, 3), dtype=np.uint8)
IMAGES[LABELS == 1] += 160


class Brightness(nn.Module):
    """Says which images are bright, by their mean, and keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.at = nn.Parameter(torch.tensor(0.0))
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        score = x.mean(dim=(1, 2, 3)) - self.at
        return torch.stack([-score, score], dim=1)


def answered(std):
    known = {"mean": [0.45] * 3, "std": [std] * 3, "class_names": CLASSES}
    model = describe_module(Brightness(), name="m", image_size=8, **known)
    settings = Settings(references=False, show="classes")
    study = prepare_study([model], IMAGES, LABELS, CLASSES, (), settings, "cpu")
    model.module.seen.clear()
    found, _, _ = answers_on_changed_images(study, {0: study.networks[0]}, {0: LABELS})
    return model.module.seen, found[0]


def test_a_network_that_reads_the_mean_answers_the_class_of_the_low_frequencies():
    _, found = answered(std=1.0)
    shares = found["hybrid_share"]
    assert shares.sel(source="low").values.tolist() == [1] * len(CUTS)
    assert shares.sel(source="high").values.tolist() == [0] * len(CUTS)


@pytest.mark.parametrize("std", [0.25, 1.0])
def test_noise_is_as_strong_in_pixels_whatever_a_models_scale(std):
    seen, _ = answered(std)
    pixels = torch.tensor(IMAGES).permute(0, 3, 1, 2) / 255
    for noisy in seen[: len(BANDS) - 1]:
        noise = noisy * std + 0.45 - pixels
        torch.testing.assert_close(
            noise.square().mean(dim=(1, 2, 3)).sqrt(),
            torch.full((20,), DEVIATION),
            rtol=1e-4,
            atol=0,
        )
