"""Bad mappings: YAML that a file can hold, and values that a field cannot."""

import time

import pytest
import yaml

from zoo.config import TrainConfig
from zoo.config.mapping import MOST_VALUES, from_mapping, parse_yaml
from zoo.errors import UserError

COMMON = {"batch_size": 50, "learning_rate": 0.1}
BOMB = "a0: &a0 [x, x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' stands twice"),
        ("{1: x, '1': y}", "the key '1' stands twice"),
        ("[" * 10_000, "at most 20 levels"),
        ("a: " * 10_000, "mapping values are not allowed"),
        ("- " * 10_000, "at most 20 levels"),
        (BOMB, "at most 10,000 values"),
        ("x, " * MOST_VALUES + "y", None),
        (f"[{'x, ' * MOST_VALUES}]", "at most 10,000 values"),
        ("&a [*a]", "an alias stands in what it stands for"),
        ("1" * 5000, "'1111.*1111': Exceeds the limit"),
        ("!!timestamp 2026-13-01", "month must be in 1..12"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_yaml_that_is_too_much_or_says_two_things_is_refused_at_once(text, message):
    began = time.monotonic()
    if message is None:
        assert parse_yaml(text) == text
    else:
        with pytest.raises(yaml.YAMLError, match=message) as error:
            parse_yaml(text)
        assert len(str(error.value)) < 500
    assert time.monotonic() - began < 5


def test_aliases_are_written_out_and_dates_are_text():
    text = "a: &a {x: [1, 2.5]}\nb: *a\nc: {<<: *a, y: ~}\nd: 2026-11-28\ne: 2026-13-01"
    one = {"x": [1, 2.5]}
    expected = {"a": one, "b": one, "c": one | {"y": None}, "d": "2026-11-28", "e": "2026-13-01"}
    assert parse_yaml(text) == expected


def test_a_union_says_what_is_wrong_within_the_value():
    with pytest.raises(UserError, match=r"^train: epochs.small: expected int, got str 'x'$"):
        from_mapping(TrainConfig, COMMON | {"epochs": {"full": 2, "small": "x"}}, "train")
    with pytest.raises(UserError, match=r"expected int \| dict\[str, int\] \| None, got str 'x'$"):
        from_mapping(TrainConfig, COMMON | {"epochs": "x"}, "train")
