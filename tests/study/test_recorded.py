"""A network whose last pass was recorded is not run again, and gives the same bits."""

import dataclasses
import os

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from tests.labelled import values
from zoo.analyses.engine import analyse
from zoo.config import Settings
from zoo.models.files import describe_module
from zoo.study import one_pass, recorded
from zoo.study.prepare import prepare_study
from zoo.study.recorded import LOGITS, Recorded
from zoo.study.tree import to_tree

WATCHING = [
    "accuracy", "attention-distance", "calibration", "cka", "differences", "similarity",
]  # fmt: skip
CONDITIONS = {"hardware": "here"}


@pytest.fixture(scope="module")
def models(make_model):
    archs = {"a": "vit", "b": "resnet18", "c": "vit", "other": "vit"}
    made = {name: make_model(arch, name, seed=i) for i, (name, arch) in enumerate(archs.items())}
    for model in made.values():  # as if trained: not the weights before training
        for weights in model.module.parameters():
            weights.data.mul_(1.25)
    return made


@pytest.fixture
def ran(monkeypatch):
    """Which networks ran, in order, one entry a batch."""
    names = []

    def run(s, network, pixels, wanted):
        names.append(network.name)
        return forward(s, network, pixels, wanted)

    forward = one_pass._forward
    monkeypatch.setattr(one_pass, "_forward", run)
    return names


@pytest.fixture
def compare(models, digit_images):
    images, labels = (of[:40] for of in digit_images)

    def compare(names, kept=None, only=("cka",), siblings=(), **settings):
        own = [models[name] for name in names]
        study = prepare_study(
            own, images, labels, own[0].spec.class_names, siblings,
            Settings(batch_size=20, **settings), "cpu", kept,
        )  # fmt: skip
        return analyse(study, only)

    return compare


def assert_same(one, other):
    xr.testing.assert_identical(to_tree(one), to_tree(other))
    assert one.shown == other.shown
    for name, result in one.results.items():
        assert repr(result.metrics) == repr(other.results[name].metrics)
        assert result.notes == other.results[name].notes


@pytest.mark.parametrize(("only", "pool"), [(WATCHING, "flatten"), (["cka"], "gap")])
def test_what_was_recorded_gives_the_same_bits_and_runs_nothing(
    compare, models, tmp_path, ran, only, pool, monkeypatch
):
    seeds = [(1, models["other"])]  # of the second
    for names in ("ab", "bc"):
        compare(names, Recorded(tmp_path, CONDITIONS), only, seeds[: names == "bc"], pool=pool)
    compare("ac", Recorded(tmp_path, CONDITIONS), ["cka"], pool=pool)
    expected = compare("ac", None, only, seeds, pool=pool)
    ran.clear()
    # No batch, not even for the images that figures show; looking at a network takes two images.
    monkeypatch.setattr("zoo.study.shown.logits_on", None)
    found = compare("ac", Recorded(tmp_path, CONDITIONS), only, seeds, pool=pool)
    assert ran == []
    assert_same(found, expected)


def test_a_new_network_alone_runs(compare, tmp_path, ran):
    kept = Recorded(tmp_path, CONDITIONS)
    compare("ab", kept)
    ran.clear()
    compare("ac", kept)
    assert ran == ["c", "c untrained"] * 2


def test_what_is_not_recorded_runs_and_is_added(compare, tmp_path, ran):
    kept = Recorded(tmp_path, CONDITIONS)
    compare("ab", kept, only=["cka"])
    ran.clear()
    more = compare("ab", kept, only=["cka", "similarity"], layers="all", references=False)
    assert ran == ["a", "b"] * 2
    assert_same(more, compare("ab", only=["cka", "similarity"], layers="all", references=False))
    ran.clear()
    compare("ab", kept, only=["cka"], references=False)  # what was there first still is
    assert ran == []
    compare("ab", kept, pool="gap", references=False)
    assert ran == ["a", "b"] * 2
    ran.clear()
    # What an analysis takes of a tensor in another way is not recorded: the network runs.
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    own = compare("ab", kept, only=["cka", "attention-maps"])
    assert ran == ["a", "a untrained"] * 2
    assert_same(own, compare("ab", only=["cka", "attention-maps"]))
    assert before == {path: path.stat().st_ino for path in tmp_path.iterdir()}


def test_weights_images_and_conditions_are_told_apart(models, digit_images, tmp_path):
    images, kept = digit_images[0], Recorded(tmp_path, CONDITIONS)

    def found(model=models["a"], images=images, kept=kept):
        return kept.of(model, images).found

    kept.of(models["a"], images).keep({LOGITS: torch.ones(2)})
    assert list(found()) == [LOGITS]
    changed = images.copy()
    changed[3, 2, 1, 0] ^= 1
    assert found(images=changed) == found(images=images[:-1]) == {}
    weights = dataclasses.replace(models["a"], module=models["other"].module)
    spec = dataclasses.replace(models["a"].spec, mean=[0.25] * 3)
    for model in (weights, dataclasses.replace(models["a"], spec=spec)):
        fresh = Recorded(tmp_path, CONDITIONS)
        assert found(model, kept=fresh) == {}
    assert found(kept=Recorded(tmp_path, {"hardware": "elsewhere"})) == {}
    assert found(kept=Recorded(tmp_path, CONDITIONS, replay=False)) == {}
    again = dataclasses.replace(models["a"], name="another")
    assert list(found(again, kept=Recorded(tmp_path, CONDITIONS))) == [LOGITS]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:9],
        lambda content: b"",
        lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        lambda content: content.replace(b"cls", b"clz", 1),
    ],
    ids=["truncated", "its header", "empty", "a bit", "a name"],
)
def test_what_is_damaged_is_made_again(models, digit_images, tmp_path, damage):
    kept, images = Recorded(tmp_path, CONDITIONS), digit_images[0]
    whole = {LOGITS: torch.randn(60, 10), "cls": torch.arange(3.0)}
    kept.of(models["a"], images).keep(whole)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert kept.of(models["a"], images).found == {}
    kept.of(models["a"], images).keep(whole)
    assert path.read_bytes() == content


def test_every_type_comes_back_as_it_was(models, digit_images, tmp_path):
    kept, images = Recorded(tmp_path, CONDITIONS), digit_images[0]
    given = {
        "double": torch.randn(3, 4, dtype=torch.float64).T,
        "half": torch.randn(5).bfloat16(),
        "nan": torch.tensor(torch.nan),
        "none": torch.zeros(0, 2),
    }
    kept.of(models["a"], images).keep(dict(given))
    found = kept.of(models["a"], images).found
    assert found.keys() == given.keys()
    for key, value in found.items():
        assert value.dtype == given[key].dtype
        assert torch.equal(value.nan_to_num(7), given[key].nan_to_num(7))


def test_a_network_that_draws_at_random_runs_every_time(digit_images, tmp_path, ran):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(768, 10)

        def forward(self, x):
            return self.linear(x.flatten(1) + torch.rand(len(x), 1))

    model = describe_module(Noisy(), name="noisy", image_size=16)
    kept, images = Recorded(tmp_path, CONDITIONS), digit_images[0]
    for _ in range(2):
        study = prepare_study([model], images, None, (), (), Settings(), "cpu", kept)
        analyse(study, ["cka"])
    assert ran == ["noisy"] * 2
    assert not list(tmp_path.iterdir())


def test_each_process_replays_its_own_part(compare, models, digit_images, tmp_path, ran):
    kept = Recorded(tmp_path, CONDITIONS)
    compare("ab", kept, only=["cka"], references=False)
    images, labels = (of[:40] for of in digit_images)
    settings = Settings(batch_size=20, references=False)
    study = prepare_study([models["a"], models["b"]], images, labels, (), (), settings, "cpu", kept)
    from zoo.analyses.cka import start

    ran.clear()
    parts = [start(study) for _ in range(2)]
    for i, part in enumerate(parts):
        one_pass.run_pass(study, [part], part=(i, 2))
    parts[0].take([part.state() for part in parts])
    assert ran == []
    expected = values(compare("ab", only=["cka"], references=False).results["cka"], "cka")
    np.testing.assert_allclose(values(parts[0].result(), "cka"), expected, rtol=1e-12)


def test_the_least_recently_used_are_removed(models, digit_images, tmp_path, monkeypatch):
    kept, images = Recorded(tmp_path, CONDITIONS), digit_images[0]
    sizes = {}
    for n in (10, 20, 30):
        kept.of(models["a"], images[:n]).keep({LOGITS: torch.zeros(1000)})
        (path,) = set(tmp_path.iterdir()) - set(sizes)
        os.utime(path, (n, n))
        sizes[path] = path.stat().st_size
    kept.of(models["a"], images[:10])  # read: now in use
    first, second, third = sizes
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"a person's")
    os.utime(weights, (1, 1))
    monkeypatch.setattr(recorded, "LIMIT", sum(sizes.values()) - 1)
    kept.trim()
    assert set(tmp_path.iterdir()) == {first, third, weights}
    Recorded(tmp_path / "nothing", CONDITIONS).trim()
    # A pass that needs more room than there is keeps its first batches.
    monkeypatch.setattr(recorded, "LIMIT", sizes[first])
    large = Recorded(tmp_path / "large", CONDITIONS)
    for n in (10, 20):
        large.of(models["a"], images[:n]).keep({LOGITS: torch.zeros(1000)})
    assert list(large.of(models["a"], images[:10]).found) == [LOGITS]
    assert large.of(models["a"], images[:20]).found == {}
    assert second not in sizes.keys() & set(tmp_path.iterdir())


def test_a_full_disk_is_told_once_and_ends_nothing(compare, tmp_path, monkeypatch, caplog):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorded, "write_bytes", full)
    found = compare("ab", Recorded(tmp_path, CONDITIONS), only=["cka"])
    assert_same(found, compare("ab", only=["cka"]))
    assert [text for text in caplog.messages if "No space left" in text] == [
        f"{tmp_path}: what networks give is not kept: [Errno 28] No space left on device"
    ]
