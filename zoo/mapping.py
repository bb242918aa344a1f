"""A mapping, as YAML or JSON gives it, becomes a dataclass; a wrong key is named, never ignored."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from zoo.errors import UserError, unknown

T = TypeVar("T")


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
        for option in arguments:
            try:
                return _convert(option, value, where)
            except UserError:
                continue
    elif origin is dict and isinstance(value, Mapping):
        return {str(k): _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    elif origin in (list, tuple) and isinstance(value, list | tuple):
        items = [_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value)]
        return origin(items)
    elif hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        if (number := _finite(value)) is not None:
            return number
    elif hint is type(None) and value is None:
        return None
    elif isinstance(hint, type) and isinstance(value, hint) and (hint, type(value)) != (int, bool):
        return value
    expected = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    raise UserError(f"{where}: expected {expected}, got {_show(value)}")


def _finite(value: float | str) -> float | None:
    # YAML 1.1 reads 1e-5, which has no point, as text.
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _show(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:80]!r}"
