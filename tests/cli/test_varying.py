"""Which commands name a network whose answer for an image depends on the others of its batch."""

import sys
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from PIL import Image

from tests.test_device import NoDoubles
from zoo.cli import main
from zoo.models.build import ARCHITECTURES


@pytest.fixture
def run(kept, digits_folder, monkeypatch, capsys):
    """Run a command beside the digits' subsets and a picture; return all that it prints."""
    (kept / "data").mkdir(exist_ok=True)
    if not (kept / "data" / "subsets").exists():
        (kept / "data" / "subsets").symlink_to(digits_folder)
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(kept / "grey.png")

    def told(*arguments):
        monkeypatch.setattr(sys, "argv", ["zoo", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        return printed.out + printed.err

    return told


@pytest.fixture
def mixing(monkeypatch):
    """Let every ViT subtract the mean over the batch from what it gives."""
    make = ARCHITECTURES["vit"]

    def make_mixing(*args, **known):
        module = make(*args, **known)
        module.register_forward_hook(lambda *called: called[-1] - called[-1].mean(0, keepdim=True))
        return module

    monkeypatch.setitem(ARCHITECTURES, "vit", make_mixing)


COMMANDS = [
    ("predict", "vit-small", "grey.png"),
    ("evaluate", "vit-small", "vit-gap-small", "--images", "20"),
    ("probe", "vit-small", "--layers", "blocks.0"),
    ("fingerprint", "vit-small", "--images", "20"),
]
SAID = "answers an image differently beside other images"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_network_that_mixes_the_images_of_a_batch_is_named(run, mixing, command):
    if command[0] == "fingerprint":  # it stays with the version, which other tests share
        command = (*command[:-1], "24")
    first = run(*command)
    assert first.count(SAID) == 1
    assert f"vit-small {SAID}" in first or f"vit-small/1 {SAID}" in first
    if command[0] == "fingerprint":  # one that was there is not made again, but named again
        assert "was there" in (again := run(*command))
        assert again.count(SAID) == 1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_other_network_is(run, command):
    assert SAID not in run(*command)


def test_predict_needs_no_64_bit_numbers_once_the_network_is_on_its_device(run, monkeypatch):
    move, without = torch.nn.Module.to, ExitStack()

    def moved(module, *where, **how):
        without.enter_context(NoDoubles())
        return move(module, *where, **how)

    monkeypatch.setattr(torch.nn.Module, "to", moved)
    with without:
        assert "grey.png" in run("predict", "vit-small", "grey.png")
