"""A mapping, as YAML or JSON gives it, becomes a dataclass; a wrong key is named, never ignored."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from zoo.errors import UserError, shown, unknown

T = TypeVar("T")
MOST_LEVELS, MOST_VALUES = 20, 10_000  # of a YAML file, its aliases written out


def parse_yaml(text: str) -> Any:
    """Return what YAML says, as JSON has it: mappings, lists, text, numbers, true, false, null.

    What looks like a date is text. Aliases are written out, up to 10,000 values in all.

    Raises:
        yaml.YAMLError: not YAML, too large, nested too deeply, a number of thousands of digits,
            or a key that stands twice.
    """
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    """PyYAML would accept a file that expands to billions of values, and the last of two keys.

    It composes nodes before it makes values of them, so that is where they are counted.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML has it
        first: [(tag, form) for tag, form in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.level = 0
        self.sizes: dict[int, int] = {}  # values in each node, by its identity

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; refuse a large or deep one."""
        mark, is_alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        self.level += 1
        if self.level > MOST_LEVELS:
            raise _error(f"expected at most {MOST_LEVELS} levels", mark)
        node = super().compose_node(parent, index)
        self.level -= 1
        if is_alias and id(node) not in self.sizes:
            raise _error("an alias stands in what it stands for", mark)
        if isinstance(node, yaml.MappingNode):
            keys = Counter(str(key.value) for key, _ in node.value)
            if twice := [key for key, count in keys.items() if count > 1]:
                raise _error(f"the key {shown(twice[0])} stands twice", mark)
            children = [child for pair in node.value for child in pair]
        else:
            children = node.value if isinstance(node, yaml.SequenceNode) else []
        self.sizes[id(node)] = 1 + sum(self.sizes[id(child)] for child in children)
        if max(self.sizes[id(node)], len(self.sizes)) > MOST_VALUES:
            raise _error(f"expected at most {MOST_VALUES:,} values", mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Make a value; one that Python cannot hold is an error of the file."""
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise _error(f"{shown(node.value)}: {error}".split(";")[0], node.start_mark) from None


def _error(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


@dataclass(frozen=True)
class Range:
    """The numbers that a field takes, which declares it: `batch_size: Annotated[int, Range(1, 9)]`.

    Both ends belong to it; with `above`, `low` does not. There is always an upper end: without
    one, a slip of the keyboard fills the memory or computes for ever.

    >>> str(Range(1, 4096, "pixels")), str(Range(0, 1, above=True))
    ('1 to 4096 pixels', 'above 0, at most 1')
    """

    low: float
    high: float
    unit: str = ""
    above: bool = False

    def __contains__(self, number: float) -> bool:
        """Say whether a number lies within; NaN never does."""
        return (number > self.low if self.above else number >= self.low) and number <= self.high

    def __str__(self) -> str:
        """Return the range as an error message shows it."""
        ends = f"above {self.low}, at most" if self.above else f"{self.low} to"
        return f"{ends} {self.high} {self.unit}".rstrip()


def check_ranges(config: object, section: str = "") -> None:
    """Raise `UserError` for the first number of a dataclass that is out of its field's `Range`.

    Args:
        config: a dataclass; in a field that is a list or a mapping, every number is checked.
        section: what stands before the field's name in an error, for example `train.`.
    """
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        for limit in getattr(hint, "__metadata__", ()):
            for where, number in numbers_in(getattr(config, name), f"{section}{name}"):
                if isinstance(limit, Range) and number not in limit:
                    raise UserError(f"{where}: expected {limit}, got {shown(number)}")


def numbers_in(value: object, where: str) -> Iterator[tuple[str, int | float]]:
    """Yield every number in a value, also in its lists and mappings, and where it is."""
    if isinstance(value, int | float):
        yield where, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from numbers_in(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from numbers_in(item, f"{where}[{i}]")


def from_mapping(kind: type[T], content: object, where: str) -> T:
    """Build a dataclass from a mapping, checking keys and types all the way down.

    Args:
        kind: the dataclass.
        content: what YAML or JSON gave.
        where: how to name the place in an error, for example `params.yaml` or `train`.

    Raises:
        UserError: on an unknown key, a missing key or a value of another type.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected a mapping, got {_show(content)}")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, kind))}
    for key in content:
        if key not in fields:
            raise unknown(f"key in {where}:", key, fields)
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, declared in fields.items():
        if name in content:
            values[name] = _convert(hints[name], content[name], f"{where}: {name}")
        elif (
            declared.default is dataclasses.MISSING
            and declared.default_factory is dataclasses.MISSING
        ):
            raise UserError(f"{where}: missing key {name!r}; expected: {', '.join(fields)}")
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:  # noqa: PLR0911 - one a kind of type
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_to_one(hint, value, where)
    if origin is dict and isinstance(value, Mapping):
        return {str(k): _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    elif origin in (list, tuple) and isinstance(value, list | tuple):
        items = [_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
        return origin(items)
    elif hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        # YAML 1.1 reads 1e-5, which has no point, as text.
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(number := float(value)):
                return number
    elif hint is type(None) and value is None:
        return None
    elif isinstance(hint, type) and isinstance(value, hint) and (hint, type(value)) != (int, bool):
        if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
            # JSON can spell it, but neither a file nor a figure can hold it.
            raise UserError(f"{where}: expected text in Unicode, got half a pair {value!r}")
        return value
    expected = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    raise UserError(f"{where}: expected {expected}, got {_show(value)}")


def _convert_to_one(union: Any, value: Any, where: str) -> Any:
    within: UserError | None = None
    for kind in typing.get_args(union):
        try:
            return _convert(kind, value, where)
        except UserError as error:
            if not str(error).startswith(f"{where}: "):
                within = error
    # Where the value is of one of these kinds, something in it is wrong.
    raise within or UserError(f"{where}: expected {union}, got {_show(value)}")


def _show(value: object) -> str:
    return f"{type(value).__name__} {shown(value)}"
