import math
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml

from tests.warm import run
from zoo.analyses import check_analyses
from zoo.config import (
    CompareConfig,
    DataConfig,
    Settings,
    StudyConfig,
    TrainConfig,
    load_params,
)
from zoo.config.mapping import from_mapping
from zoo.errors import UserError

PARAMS = Path(__file__).parent.parent / "params.yaml"


def edited(tmp_path: Path, **changes: object) -> Path:
    content = yaml.safe_load(PARAMS.read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = content
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[last]
        else:
            section[last] = value
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_shipped_params_are_valid_and_list_the_default_variants():
    params = load_params(PARAMS)
    assert params.variants[0] == ("vit", "small", 0)
    assert (params.variants[0].name, params.variants[0].key) == ("vit-small", "vit-small-0")
    assert len(params.variants) == 6


def test_a_models_own_settings_override_the_common_ones():
    params = load_params(PARAMS)
    assert params.train_config("vit").learning_rate == 0.0003
    assert params.train_config("resnet18").learning_rate == params.train.learning_rate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__epohcs": 3}, r"unknown key in .*train: 'epohcs'; did you mean 'epochs'\?"),
        ({"train__batch_size": None}, "train: missing key 'batch_size'"),
        ({"train__batch_size": "many"}, "train: batch_size: expected int, got str 'many'"),
        ({"train__batch_size": True}, "expected int, got bool"),
        ({"train__batch_size": 0}, "train.batch_size: expected 1 to 65536 images, got 0"),
        ({"train__optimizer": "adan"}, "did you mean 'adam'"),
        ({"train__learning_rate": float("nan")}, "expected float, got float nan"),
        ({"models__vit__train": {"lr": 1.0}}, r"unknown key in models.vit.train: 'lr'"),
        ({"study__models": ["vitt"]}, "unknown study.models entry .* 'vitt'; did you mean 'vit'"),
        ({"study__subsets": ["tiny"]}, "unknown study.subsets entry 'tiny'"),
        ({"data__validation": 1.5}, "data.validation: expected above 0, at most 0.99, got 1.5"),
        ({"data": 3}, "expected a mapping, got int 3"),
        ({"train__learning_rate": "1e999"}, "expected float, got str '1e999'"),
        (
            {"study__models": ["mixr"]},
            r"add it under `models` first\) 'mixr'; did you mean 'mixer'",
        ),
        ({"study__seeds": []}, "study.seeds: expected one or more"),
        ({"compare__pairs": [["vit-small"]]}, "two or more names"),
        ({"compare__pairs": [["vit-small", "vit-smal"]]}, "'vit-smal'; did you mean 'vit-small'"),
        ({"data__seed": -1}, "data.seed: expected 0 to 4294967295, got -1"),
        ({"data__seed": 2**32}, "data.seed: expected 0 to 4294967295, got 4294967296"),
        (
            {"study__seeds": [0, 2**32]},
            r"study.seeds\[1\]: expected 0 to 4294967295, got 4294967296",
        ),
        ({"train__label_smoothing": 1.5}, "train.label_smoothing: expected 0 to 1, got 1.5"),
        ({"train__label_smoothing": -0.1}, "train.label_smoothing: expected 0 to 1"),
        ({"models__vit__train": {"weight_decay": -1}}, "weight_decay: expected 0 to 1000, got -1"),
        ({"models__a/b": {"arch": "vit"}}, "models: expected at most 64 of A-Z, .*, got 'a/b'"),
        ({"subsets__..": 10}, r"subsets: expected at most 64 of A-Z, .*, got '\.\.'"),
        ({"subsets__small": 0}, "subsets.small: expected 1 to 2147483647 images, got 0"),
        ({"subsets__small": "most"}, "subsets.small: expected 1 to .* or all, got 'most'"),
        ({"study__seeds": [0, 0]}, r"study.seeds: expected each of them once, got \[0, 0\]"),
        ({"study__subsets": ["small", "small"]}, "study.subsets: expected each of them once"),
        ({"study__models": ["vit", "vit"]}, "study.models: expected each of them once"),
        ({"train__epochs": {"smal": 20}}, "no entry for the subset 'small': give one number"),
        (
            {"models__vit__train": {"epochs": {"full": 2}}},
            "train.epochs has no entry for the subset 'small'",
        ),
        (
            {"train__steps": 100},
            "train: expected either epochs or steps .* got epochs {.* steps 100",
        ),
        ({"train__epochs": None}, "train: expected either epochs or steps .* None and steps 0"),
        (
            {"train__steps": -1, "train__epochs": None},
            "train.steps: expected 0 to 100000000 steps, got -1",
        ),
        ({"train__mixup": -0.1}, "train.mixup: expected 0 to 1000, got -0.1"),
        ({"train__random_erasing": 2}, "train.random_erasing: expected 0 to 1, got 2"),
        ({"train__ema": 1.0}, "train.ema: expected 0 to 0.999999, got 1.0"),
        ({"train__keep": "bets"}, "train.keep 'bets'; did you mean 'best'"),
        (
            {"train__warmup_epochs": 1.0, "train__warmup_steps": 5},
            "warmup_epochs or warmup_steps, one of them 0",
        ),
        ({"models__vit__kwargs": {"num_classes": 3}}, "vit: kwargs hold num_classes, which zoo"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        load_params(edited(tmp_path, **changes))


def test_a_float_may_be_written_with_an_exponent_alone(tmp_path):
    file = edited(tmp_path)
    file.write_text(file.read_text().replace("learning_rate: 0.001", "learning_rate: 1e-3"))
    assert load_params(file).train.learning_rate == 0.001


def test_broken_yaml_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "params.yaml").write_text("data: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes("data: {source: digits}  # für uns".encode("latin-1"))
    with pytest.raises(UserError, match=r"params\.yaml is not valid YAML in UTF-8: .*0xfc"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(UserError, match="run this in the project's root"):
        load_params(tmp_path / "nothing.yaml")


def test_params_are_read_as_utf_8_in_any_locale(tmp_path):
    file = edited(tmp_path)
    file.write_text(f"# für uns\n{file.read_text()}", encoding="utf-8")
    code = "import sys, pathlib, zoo.config as c; c.load_params(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code, str(file)],
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, check=True,
    )  # fmt: skip


def test_seeds_at_the_ends_of_their_range_are_valid(tmp_path):
    params = load_params(edited(tmp_path, data__seed=2**32 - 1, study__seeds=[0, 2**32 - 1]))
    assert params.data.seed == params.variants[-1][2] == 2**32 - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compare__only": ["ckaa"]}, "compare: unknown analysis 'ckaa'; did you mean 'cka'"),
        ({"compare__skip": ["probe"]}, "compare: unknown analysis 'probe'; did you mean 'probes'"),
        ({"compare__only": ["cka"], "compare__skip": ["cka"]}, "compare: no analysis to run"),
    ],
)
def test_a_stage_does_not_begin_with_analyses_that_are_not_there(tmp_path, changes, message):
    with pytest.raises(UserError, match=f"params.yaml: {message}"):
        check_analyses(load_params(edited(tmp_path, **changes)).compare)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        (["train"], {}, "expected python -m pipelines.train MODEL SUBSET SEED, .* got nothing"),
        (["train", "vit", "small", "x"], {}, "MODEL SUBSET SEED, .* got vit small x"),
        (["train", "vitt", "small", "0"], {}, "unknown model .* 'vitt'; did you mean 'vit'"),
        (["subset"], {"compare__only": ["ckaa"]}, "params.yaml: compare: unknown analysis 'ckaa'"),
        (["subset"], {"data__source": "imagefolder", "data__root": "~/none"},
         "params.yaml: data: no folder /somewhere/none; expected"),
    ],
)  # fmt: skip
def test_a_stage_ends_on_bad_input_in_one_line(tmp_path, stage, changes, message):
    edited(tmp_path, **changes)
    script = f"pipelines.{stage[0]}"
    done = run(tmp_path, "python", "-m", script, *stage[1:], check=False, HOME="/somewhere")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.fullmatch(f"Error: .*{message}.*\n", done.stderr)


def test_epochs_are_one_number_or_one_for_each_subset():
    common = {"batch_size": 2, "learning_rate": 0.1}
    assert from_mapping(TrainConfig, common | {"epochs": 3}, "train").epochs_on("any") == 3
    config = from_mapping(TrainConfig, common | {"epochs": {"small": 5}}, "train")
    assert config.epochs_on("small") == 5
    with pytest.raises(UserError, match="no entry for the subset 'full'"):
        config.epochs_on("full")


def test_steps_are_the_same_on_every_subset():
    config = TrainConfig(batch_size=20, learning_rate=0.1, steps=70)
    assert config.steps_on("small", 10) == config.steps_on("full", 9999) == 70
    assert TrainConfig(batch_size=20, learning_rate=0.1, epochs=3).steps_on("any", 41) == 9


def test_a_models_own_length_replaces_the_common_one(tmp_path):
    own = {"steps": 70, "warmup_steps": 7}
    params = load_params(edited(tmp_path, models__vit__train=own, train__warmup_epochs=1.0))
    vit, other = params.train_config("vit"), params.train_config("resnet18")
    assert (vit.epochs, vit.steps, vit.warmup_epochs, vit.warmup_steps) == (None, 70, 0.0, 7)
    assert (other.steps, other.warmup_epochs, other.warmup_steps) == (0, 1.0, 0)


def test_settings_are_plain_values():
    assert Settings().batch_size == 128


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 3}, "batch_size: expected 4 to 65536 images, got 3"),
        ({"shown_images": 0}, "shown_images: expected 1 to 100 images, got 0"),
        ({"seed": -1}, "seed: expected 0 to 4294967295, got -1"),
        ({"pool": "max"}, "pool: expected one of flatten, gap, cls, tokens, got 'max'"),
        ({"layers": "["}, r"layers: expected 'blocks', 'all' or a regular expression, got '\['"),
    ],
)
def test_settings_of_a_comparison_are_checked(wrong, message):
    with pytest.raises(UserError, match=message):
        Settings(**wrong)


@pytest.mark.parametrize("kind", [DataConfig, TrainConfig, StudyConfig, CompareConfig, Settings])
def test_every_number_of_the_settings_has_a_range_with_two_finite_ends(kind):
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if re.search(r"\b(int|float)\b", str(hint)):
            (limit,) = hint.__metadata__
            assert -math.inf < limit.low < limit.high < math.inf, name


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train__batch_size", 10**30, "train.batch_size: expected 1 to 65536 images"),
        ("train__epochs", {"small": 10**30}, "train.epochs.small: expected 1 to 100000"),
        ("train__threads", 100_000, "train.threads: expected 0 to 1024"),
        ("train__crop_padding", 2**40, "train.crop_padding: expected 0 to 4096 pixels"),
        ("models__vit__train", {"warmup_epochs": 1e9}, "train.warmup_epochs: expected 0 to 100000"),
        ("data__image_size", 10**9, "data.image_size: expected 4 to 4096 pixels"),
        ("subsets__small", 10**30, "subsets.small: expected 1 to 2147483647 images"),
        ("compare__images", 10**30, "compare.images: expected 4 to 2147483647 images"),
    ],
)
def test_a_number_beyond_its_range_is_refused_in_a_short_line(tmp_path, key, value, expected):
    with pytest.raises(UserError, match=expected) as error:
        load_params(edited(tmp_path, **{key: value}))
    assert len(str(error.value)) < 200 + len(str(tmp_path))


def test_a_long_value_is_shown_without_its_middle(tmp_path):
    with pytest.raises(UserError, match=r"got str 'aaaa.*\.\.\..*aaaa'") as error:
        load_params(edited(tmp_path, train__batch_size="a" * 100_000))
    assert len(str(error.value)) < 200 + len(str(tmp_path))
    with pytest.raises(UserError, match=r"got str 'aaaa") as error:
        load_params(edited(tmp_path, data__validation="a" * 100_000))
    assert len(str(error.value)) < 200 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"study__name": "a.b"},
            "study.name: expected at most 64 of A-Z, a-z, 0-9, _ -, got 'a.b'",
        ),
        ({"models__a.b": {"arch": "vit"}}, "models: expected at most 64 of .* got 'a.b'"),
        ({"models__" + "x" * 65: {"arch": "vit"}}, "models: expected at most 64 of"),
        ({"models__Vit": {"arch": "vit"}}, "'Vit-full' and 'vit-full' would share a folder"),
        ({"subsets__Small": 50}, "'Small' and 'small' would share a folder"),
        ({"subsets__Test": 50}, "'test' and 'Test' would share a folder"),
        ({"models__vit-x": {"arch": "vit"}, "subsets__x-small": 9}, "'vit-x-small' and 'vit-x-s"),
        ({"compare__pairs": [["vit-small", "vit-full"]] * 2}, "'vit-small__vit-full' and 'vit-"),
    ],
)
def test_names_that_would_not_hold_are_refused(tmp_path, changes, message):
    content = yaml.safe_load(PARAMS.read_text())
    for key, value in changes.items():
        section, _, name = key.partition("__")
        content[section][name] = value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message):
        load_params(tmp_path / "params.yaml")


def test_a_named_study_registers_its_models_under_its_name(tmp_path):
    assert load_params(PARAMS).registered_names["vit-small"] == "vit-small"
    params = load_params(edited(tmp_path, study__name="flowers"))
    assert params.registered_names["mixer-full"] == "flowers.mixer-full"
