"""Choosing rows: the grammar, and what it must refuse."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import UserError
from zoo.registry.filters import FIELDS, choose
from zoo.registry.listing import VersionRow


def row(name="vit-small", version=1, **known):
    usual = {
        "aliases": (), "arch": "vit", "source": "digits", "subset": "small", "seed": 0,
        "parameters": 100, "test_accuracy": 0.5, "validation_accuracy": None, "digest": "a" * 64,
        "created": datetime(2026, 11, 20, tzinfo=UTC), "run_id": "", "tags": {},
    }  # fmt: skip
    return VersionRow(name, version, **(usual | known))


ROWS = [
    row(version=1, test_accuracy=0.95, aliases=("best", "paper"), tags={"stage": "in review"}),
    row(version=2, test_accuracy=0.80, seed=1, tags={"rank": "10"}),
    row("cnn", 1, arch="resnet18", subset="full", test_accuracy=0.97, tags={"rank": "9"}),
    row("cnn", 2, arch="resnet18", test_accuracy=None),
]


def names(query="", **known):
    return [f"{r.name}/{r.version}" for r in choose(ROWS, query=query, **known)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["vit-small/1", "vit-small/2", "cnn/1", "cnn/2"]),
        ("arch=vit and accuracy>0.9", ["vit-small/1"]),
        ("arch=vit AND accuracy<=.8", ["vit-small/2"]),
        ("alias=paper", ["vit-small/1"]),
        ("alias!=paper", ["vit-small/2", "cnn/1", "cnn/2"]),
        ("seed=1 or subset=full", ["vit-small/2", "cnn/1"]),
        ("subset=full or arch=vit and seed=1", ["vit-small/2", "cnn/1"]),
        ("subset=full and seed=1 or arch=vit", ["vit-small/1", "vit-small/2"]),
        ("accuracy!=0.95", ["vit-small/2", "cnn/1", "cnn/2"]),
        ("accuracy<1", ["vit-small/1", "vit-small/2", "cnn/1"]),
        ("stage='in review'", ["vit-small/1"]),
        ('stage="in review" or model = cnn and version >= 2', ["vit-small/1", "cnn/2"]),
        ("rank>=9", ["vit-small/2", "cnn/1"]),
        ("rank=10.0", ["vit-small/2"]),
        ("parameters>=1e2", ["vit-small/1", "vit-small/2", "cnn/1", "cnn/2"]),
        ("arch=__import__", []),
    ],
)
def test_a_query_lets_through_what_it_says(query, expected):
    assert names(query) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("acuracy>0.9", "unknown field 'acuracy'; did you mean 'accuracy'? valid: accuracy, alias"),
        ("stgae=x", "did you mean 'stage'"),
        ("accuracy>high", "accuracy>…: expected a number, got 'high'"),
        ("accuracy>nan", "expected a number"),
        ("accuracy>1_0", "accuracy>…: expected a number, got '1_0'"),
        ("arch==vit", "cannot read 'arch==vit'"),
        ("rank>high", "rank>…: expected a number"),
        ("arch>vit", "arch is text: expected arch=… or arch!=…, got >"),
        ("arch", "cannot read 'arch'"),
        ("arch=", "cannot read 'arch='"),
        ("arch=vit and", "cannot read 'arch=vit and'"),
        ("arch=vit subset=full", "cannot read 'arch=vit subset=full'"),
        ("arch=vit, subset=full", "cannot read"),
        ("(arch=vit)", "without parentheses"),
        ("and arch=vit", "cannot read 'and arch=vit'"),
        ("'arch'=vit", "cannot read \"'arch'=vit\""),
        ("arch=vitand seed=1", "cannot read 'arch=vitand seed=1'"),
        ("stage='in review", 'cannot read "stage=\'in review"'),
    ],
)
def test_what_cannot_be_read_is_named(query, message):
    with pytest.raises(UserError) as raised:
        choose(ROWS, query=query)
    assert message in str(raised.value)


def test_numbers_sort_from_the_highest_and_what_is_missing_comes_last():
    assert names(sort="accuracy") == ["cnn/1", "vit-small/1", "vit-small/2", "cnn/2"]
    assert names(sort="model") == ["cnn/1", "cnn/2", "vit-small/1", "vit-small/2"]
    assert names(sort="rank")[:2] == ["vit-small/2", "cnn/1"]
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        names(sort="accurcy")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_query_or_a_user_error(text):
    try:
        chosen = choose(ROWS, query=text)
    except UserError:
        return
    assert all(r in ROWS for r in chosen)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["version", "seed", "parameters", "accuracy"]),
    st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
    st.floats(-2, 120, allow_nan=False),
)
def test_numbers_compare_as_python_does(field, sign, value):
    name = {"accuracy": "test_accuracy"}.get(field, field)
    shown = {"=": "=="}.get(sign, sign)
    # A reference by Python's own evaluation, of text that this test makes.
    expected = [
        r
        for r in ROWS
        if (sign == "!=" if getattr(r, name) is None else eval(f"{getattr(r, name)}{shown}{value}"))
    ]
    assert choose(ROWS, query=f"{field}{sign}{value!r}") == expected


def test_every_field_can_be_asked_for():
    assert all(choose(ROWS[:1], query=f"{field}!=-1") == ROWS[:1] for field in FIELDS)
