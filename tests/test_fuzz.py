"""Whatever stands in params.yaml: settings, or one short line that names what is wrong."""

import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.nested import places, put
from zoo.config import Params, check_kwargs, load_params
from zoo.errors import UserError
from zoo.models.build import build, count_outputs

SHIPPED = yaml.safe_load((Path(__file__).parent.parent / "params.yaml").read_text())
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 100),
    st.sampled_from([2**31, 2**63, -(2**64), 10**30, 1e30, -1e-300, float("inf"), float("nan")]),
    st.sampled_from(["", "all", "..", "a/b", "1e-3", "1_000", "0x10", "~", "é" * 300, "\x1b[31m"]),
    st.text(max_size=20),
)
VALUES = st.recursive(
    ODD, lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=5), some)
)
FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def refused_in_a_line(call):
    """Return what a call gives; None where it ends in one short line for the user, at once."""
    began = time.monotonic()
    try:
        return call()
    except UserError as error:
        line = str(error)
        assert line
        assert len(line) < 1000
        return None
    finally:
        assert time.monotonic() - began < 30


@FUZZ
@given(path=st.sampled_from(list(places(SHIPPED))), value=VALUES)
def test_any_value_anywhere_is_taken_or_refused_in_a_line(tmp_path, path, value):
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(put(SHIPPED, path, value)), encoding="utf-8")
    params = refused_in_a_line(lambda: load_params(file))
    assert params is None or (isinstance(params, Params) and params.variants)


@FUZZ
@given(
    start=st.integers(0, 1500),
    length=st.integers(0, 40),
    text=st.text("[]{}:,-&*!|>'\" \n\tax0#%@`"),
)
@example(start=0, length=0, text="a: 1\na: 2\n")
@example(start=0, length=5000, text="[" * 9_000)
@example(start=0, length=5000, text="1" * 9_000)
@example(start=0, length=5000, text="x: 2026-13-01")
@example(start=0, length=5000, text="a: &a [*a]")
def test_any_text_is_taken_or_refused_in_a_line(tmp_path, start, length, text):
    shipped = yaml.safe_dump(SHIPPED)
    file = tmp_path / "params.yaml"
    file.write_text(shipped[:start] + text + shipped[start + length :], encoding="utf-8")
    params = refused_in_a_line(lambda: load_params(file))
    assert params is None or isinstance(params, Params)


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_in_a_line(tmp_path, content):
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    assert refused_in_a_line(lambda: load_params(file)) is None


ARGUMENTS = {
    "vit": (
        "patch_size",
        "embed_dim",
        "depth",
        "num_heads",
        "mlp_ratio",
        "qkv_bias",
        "global_pool",
    ),
    "resnet18": ("layers", "block", "zero_init_last", "drop_rate", "stem_width"),
    "mixer": ("patch_size", "embed_dim", "num_blocks", "mlp_ratio", "drop_rate"),
}


@settings(FUZZ, max_examples=60)
@given(data=st.data(), arch=st.sampled_from(sorted(ARGUMENTS)))
def test_a_network_of_any_arguments_is_built_and_run_or_refused_in_a_line(data, arch):
    known = st.sampled_from(ARGUMENTS[arch])
    small = {"vit": {"embed_dim": 16, "num_heads": 2}, "mixer": {"embed_dim": 16}}.get(arch, {})
    kwargs = small | data.draw(st.dictionaries(known | st.text(max_size=5), VALUES, max_size=2))

    def run():
        check_kwargs(arch, kwargs)
        return count_outputs(build(arch, classes=3, image_size=8, **kwargs), 8, arch)

    outputs = refused_in_a_line(run)
    assert outputs is None or outputs > 0


def test_a_pipe_as_params_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(UserError, match=r"params\.yaml: expected a file, got a folder, a pipe"):
        load_params(tmp_path / "params.yaml")
