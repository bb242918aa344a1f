"""Every analysis understands the changed ViTs: their family, their grid, what classifies."""

import pytest

import zoo
from tests.analyses.test_engine import study_of
from tests.models.test_variants import CHANGES, make
from zoo.config import Settings
from zoo.study.networks import reads_class_token


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_vit_is_a_vit_with_its_grid(name, digit_images):
    subject = study_of([make(name)], digit_images[0]).networks[0]
    pooled = CHANGES[name][0] == "cct" or name == "sequence"
    prefix = {"distilled": 2}.get(name, 0 if pooled else 1)
    grid = subject.grid
    assert subject.family == "vit"
    assert (grid.num_prefix_tokens, grid.width, grid.patch) == (prefix, 4, 4.0)
    assert reads_class_token(subject) == (not pooled)
    assert subject.trace.attention == ("blocks.0.attn", "blocks.1.attn")
    assert subject.trace.of_role("block") == ("blocks.0", "blocks.1")


@pytest.mark.slow
def test_what_applies_to_the_plain_vit_applies_to_all_of_them(digit_images, make_model):
    settings = Settings(batch_size=10, references=False)
    images, labels = digit_images[0][:20], digit_images[1][:20]
    plain = zoo.compare([make_model("vit")], images, labels, settings=settings)
    changed = zoo.compare([make(name) for name in CHANGES], images, labels, settings=settings)
    assert set(plain.results.results) <= set(changed.results.results)
