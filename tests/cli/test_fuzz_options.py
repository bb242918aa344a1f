"""Commands with options and arguments of any kind: one short line, and no file changed.

`ZOO_FUZZ=6000 pytest tests/cli/test_fuzz_options.py --hypothesis-seed=1` tries more of them.
"""

import os

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.test_fuzz_files import ends
from zoo.cli import COMMANDS, cli

__all__ = ["ends"]  # a fixture

EXAMPLES = int(os.environ.get("ZOO_FUZZ", "150"))
# What starts a server, or writes where it is told to.
EXCEPT = ("ui", "init")
WORDS = st.one_of(
    st.sampled_from(
        ["", "-", "--", ".", "..", "/", "~", "a/b", "a\nb", "nan", "-1", "1e9", "0x10", "all",
         "vit-small", "vit@best", "vit/1", "models:/vit/1", "./x", "accuracy", "cka,", "é" * 99,
         "9" * 5000, "\x1b[31m", "a" * 255, "cpu", "cuda:99", "digits", "full", "{}", "a=b", "=",
         "timm:", "hf:", "pkg.mod:f", "*", "small", "2", "0"]
    ),
    st.integers(-3, 10**12).map(str),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
)  # fmt: skip


def leaves(group=cli, path=()):
    """Return every command with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from leaves(found, (*path, name))
        elif name not in EXCEPT:
            yield (*path, name), found


LEAVES = dict(leaves())


@st.composite
def calls(draw):
    """Draw a command, some of its options with any values, and any arguments."""
    path = draw(st.sampled_from(sorted(LEAVES)))
    options = [p for p in LEAVES[path].params if isinstance(p, click.Option)]
    words = [*path]
    for option in draw(st.lists(st.sampled_from(options), max_size=3)):
        name = draw(st.sampled_from(option.opts + option.secondary_opts))
        words += [name] if option.is_flag or option.count else [name, draw(WORDS)]
    return words + draw(st.lists(WORDS, max_size=3))


def test_every_command_is_called():
    assert {path[0] for path in LEAVES} == set(COMMANDS) - set(EXCEPT)


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(call=calls())
def test_any_options(ends, call):
    ends(*call, allowed=(0, 2, 3))
