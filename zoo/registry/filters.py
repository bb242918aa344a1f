"""Choosing among registered versions: `arch=vit and accuracy>0.9`, parsed here, never evaluated.

A query is comparisons (`=`, `!=`, `<`, `<=`, `>`, `>=`) joined by `and` and `or`; `and` binds
tighter, and there are no parentheses. A value that was not recorded equals nothing: `!=` holds,
`<` and `>` do not.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from zoo.errors import UserError, unknown

NUMBERS = {
    "accuracy": "test_accuracy",
    "validation": "validation_accuracy",
    "parameters": "parameters",
    "seed": "seed",
    "version": "version",
}
TEXTS = {
    "model": "name",
    "arch": "arch",
    "source": "source",
    "subset": "subset",
    "alias": "aliases",
    "digest": "digest",
    "experiment": "experiment",
}
FIELDS = (*TEXTS, *NUMBERS)
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
Holds = Callable[[Any], bool]  # whether a row of the listing passes a comparison
EXAMPLE = "arch=vit and accuracy>0.9"
_WORD = r"""[^\s=!<>'"()]++"""
_COMPARISON = re.compile(
    rf"""\s*(?P<field>{_WORD})\s*(?P<sign>!=|<=|>=|=|<|>)\s*"""
    rf"""(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<word>{_WORD}))\s*"""
    r"""(?:(?P<join>and|or)\b\s*(?=\S)|$)""",
    re.IGNORECASE,
)


def choose(rows: Sequence[Any], *, query: str = "", sort: str = "") -> list[Any]:
    """Return the rows of a listing that match a query, sorted.

    Args:
        rows: those of `zoo.registry.listing.list_versions`.
        query: see this module; all rows match an empty one.
        sort: a field or a tag: numbers from the highest, text from A on, unrecorded values last;
            by default the order stays.

    Raises:
        UserError: the query cannot be read, or a field is neither known nor a tag.
    """
    tags = {key for row in rows for key in row.tags}
    choices = _parse(query, tags) if query.strip() else []
    chosen = [
        row
        for row in rows
        if not choices or any(all(holds(row) for holds in together) for together in choices)
    ]
    return _sorted(chosen, _known(sort, tags)) if sort else chosen


def _parse(query: str, tags: set[str]) -> list[list[Holds]]:
    """Return a query's alternatives, each a list of comparisons that must hold together."""
    alternatives: list[list[Holds]] = [[]]
    position = 0
    while position < len(query):
        match = _COMPARISON.match(query, position)
        if match is None:
            raise UserError(
                f"filter {query!r}: expected comparisons joined by and/or, without parentheses, "
                f"such as {EXAMPLE!r}; cannot read {query[position:].strip()!r}"
            )
        value = next(text for text in match.group("single", "double", "word") if text is not None)
        alternatives[-1].append(_comparison(match["field"], match["sign"], value, tags=tags))
        if str(match["join"]).lower() == "or":
            alternatives.append([])
        position = match.end()
    return alternatives


def _comparison(field: str, sign: str, value: str, *, tags: set[str]) -> Holds:
    field, number = _known(field, tags), _as_number(value)
    if field in TEXTS and sign in ORDER:
        raise UserError(f"filter: {field} is text: expected {field}=… or {field}!=…, got {sign}")
    if number is None and (field in NUMBERS or sign in ORDER):
        raise UserError(f"filter: {field}{sign}…: expected a number, got {value!r}")

    def equals(found: Any) -> bool:
        if field not in TEXTS and number is not None:
            return _as_number(found) == number
        return str(found) == value

    def holds(row: Any) -> bool:
        values = _values(row, field)
        if sign in ORDER:
            numbers = [n for v in values if (n := _as_number(v)) is not None]
            return any(ORDER[sign](n, number) for n in numbers)
        return any(map(equals, values)) == (sign == "=")

    return holds


def _known(field: str, tags: set[str]) -> str:
    if field not in FIELDS and field not in tags:
        raise unknown("field", field, {*FIELDS, *tags})
    return field


def _values(row: Any, field: str) -> tuple[Any, ...]:
    """Return a row's values of a field: none, one, or each alias."""
    name = TEXTS.get(field) or NUMBERS.get(field)
    value = getattr(row, name) if name else row.tags.get(field)
    if isinstance(value, tuple):
        return value
    return () if value in (None, "") else (value,)


def _sorted(rows: list[Any], field: str) -> list[Any]:
    recorded = [(_values(row, field)[0], row) for row in rows if _values(row, field)]
    numeric = field not in TEXTS and all(_as_number(value) is not None for value, _ in recorded)
    key: Any = _as_number if numeric else str
    recorded.sort(key=lambda pair: key(pair[0]), reverse=numeric)
    return [row for _, row in recorded] + [row for row in rows if not _values(row, field)]


def _as_number(value: object) -> float | None:
    if isinstance(value, str) and "_" in value:  # Python's own way to set digits apart
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
