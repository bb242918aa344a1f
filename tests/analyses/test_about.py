"""What analyses say of themselves fits what they do."""

import dataclasses
import inspect
import re

import pytest

from zoo.analyses import ANALYSES, load_analysis
from zoo.config import Settings

# It decides how much memory a pass takes, and no number.
WITHOUT_EFFECT = {("ablation", "batch_size")}


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_names_the_settings_that_it_reads(name: str):
    module = load_analysis(name)
    named = set(module.ABOUT.settings)
    assert named <= {field.name for field in dataclasses.fields(Settings)}
    code = inspect.getsource(module)
    read = set(re.findall(r"settings\.(\w+)", code))
    # What the engine makes of the settings: the images shown, and the layers of each model.
    read |= {"shown_images"} if "study.shown" in code else set()
    read |= {"layers"} if "compared_layers(" in code else set()
    assert {setting for setting in read if (name, setting) not in WITHOUT_EFFECT} <= named


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_has_captions_that_differ(name: str):
    about = load_analysis(name).ABOUT
    assert about.captions
    assert len(set(about.captions.values())) == len(about.captions)
    assert all(key.startswith(name) for key in about.captions)
