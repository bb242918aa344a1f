"""The template's filters: numbers, dates, links and names, as the page writes them for people."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from zoo.claims.base import cite, format_p, held_in
from zoo.figures.style import COLOURS
from zoo.report.questions import GLOSSARY

MOST_DECIMALS = 5


def format_number(value: Any) -> str:
    """Write a number for people: three decimals, thousands set apart, a real minus sign.

    An int is a count and has no decimals.

    >>> [format_number(v) for v in (None, 9523722, 0.41237, -0.5, 0.00001, "above 0")]
    ['–', '9,523,722', '0.412', '−0.500', '1.0e−05', 'above 0']
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (abs(value) >= 1000 and value == int(value)):
        return f"{int(value):,}".replace("-", "−")
    tiny = value != 0 and abs(value) < 0.0005
    text = f"{value:.1e}" if tiny or abs(value) >= 1e7 else f"{value:,.3f}"
    return text.replace("-", "−")


def format_estimate(
    value: float, low: float | None = None, high: float | None = None
) -> tuple[str, str]:
    """Write a number and its interval with as many decimals as the interval's width supports.

    Half the width gets two digits up to 3.5, else one, as the Particle Data Group rounds errors.
    No end that is not 0 is rounded to 0: on which side of it an end lies decides verdicts. A count
    with ends that are counts has no decimals: they are ints.

    >>> format_estimate(0.12345, 0.1, 0.15), format_estimate(-31.81, -37.2, -26.1)
    (('0.123', '0.100 to 0.150'), ('−32', '−37 to −26'))
    >>> format_estimate(2, 1, 3)
    ('2', '1 to 3')
    """
    if low is None or high is None or not math.isfinite(high - low):
        return format_number(value), ""
    half = (high - low) / 2
    if half == 0 or all(isinstance(number, int) for number in (value, low, high)):
        return format_number(value), f"{format_number(low)} to {format_number(high)}"
    power = math.floor(math.log10(half))
    decimals = min(max((half / 10**power < 3.55) - power, 0), MOST_DECIMALS)
    while decimals < MOST_DECIMALS and any(x and not round(x, decimals) for x in (low, high)):
        decimals += 1
    # + 0: no "-0.00"
    shown = [
        f"{round(x, decimals) + 0:,.{decimals}f}".replace("-", "−") for x in (value, low, high)
    ]
    return shown[0], f"{shown[1]} to {shown[2]}"


def true_minus(text: str) -> str:
    """Write the minus signs of numbers within a text as the one character that they are.

    >>> true_minus("vit-3 from -0.14 to 1e-05")
    'vit-3 from −0.14 to 1e−05'
    """
    return re.sub(r"(?<![^\s(])-(?=\d)|(?<=\de)-(?=\d)", "−", text)


def _date(text: str) -> str:
    """Write an ISO date-time for people; any other text is left as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()


def _accuracy(metrics: Mapping[str, float]) -> float | None:
    """Find the test accuracy (0..1) among a model's metrics."""
    names = ("test/accuracy", "test_accuracy", "accuracy")
    return next((metrics[name] for name in names if name in metrics), None)


def describe_input(model: Mapping[str, Any]) -> str:
    """Say how a model of a report gets its images: their size and how pixels are normalised.

    >>> known = {"image_size": 224, "crop_fraction": 0.875, "interpolation": "bicubic"}
    >>> describe_input(known | {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.3]})
    '224 × 224 pixels, cut from 256 (bicubic); mean 0.5, standard deviation (0.25, 0.25, 0.3)'
    """
    side = model["image_size"]
    size = f"{side} × {side} pixels"
    if "mean" not in model:  # a report of an earlier version
        return size
    resized = round(side / model["crop_fraction"])
    size += f", cut from {resized}" if resized != side else ""
    mean, std = (_of_channels(model[key]) for key in ("mean", "std"))
    scale = f"mean {mean}, standard deviation {std}"
    scale = "values from 0 to 1" if (mean, std) == ("0", "1") else scale
    return f"{size} ({model['interpolation']}); {scale}"


def _of_channels(values: Sequence[float]) -> str:
    """Write a number for each channel, or one where they are the same."""
    written = [f"{value:.4g}" for value in values]
    return written[0] if len(set(written)) == 1 else f"({', '.join(written)})"


def mark_code(text: str) -> Markup:
    """Set what stands between backticks in a text as code; all else is escaped.

    >>> mark_code("the stage `effect<i>`")
    Markup('the stage <code>effect&lt;i&gt;</code>')
    """
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one without its fellow
        return escape(text)
    marked = (
        Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )
    return Markup("").join(marked)


def keep_whole(text: str, names: Iterable[str]) -> Markup:
    """Keep names, and a number with its percent sign, in one line; all else is escaped.

    >>> keep_whole("vit-small: 5 %", ["vit-small"])
    Markup('<span class="whole">vit-small</span>: 5\xa0%')
    """
    # Those that a browser would break, but for the ones that may be too wide for it. The longest
    # first: one name may begin as another does.
    kept = [re.escape(name) for name in names if len(name) <= 32 and not name.isalnum()]
    words = sorted(kept, key=len, reverse=True)
    return _mark(text, words, Markup('<span class="whole">{}</span>').format)


def _mark(text: str, words: Iterable[str], mark: Callable[[str], Markup]) -> Markup:
    """Mark whole words, given as patterns, and keep a number with its percent sign in one line."""
    any_of = "|".join(words)
    parts = re.split(rf"(?<![\w-])({any_of})(?![\w-])", text) if any_of else [text]
    return Markup("").join(
        mark(part) if i % 2 else part.replace(" %", "\xa0%") for i, part in enumerate(parts)
    )


def explain(text: str, names: Sequence[str]) -> Markup:
    """Mark models by their colour and explain the glossary's words, each where it first stands.

    >>> explain("vit-s has 5 %", ["vit-s"])
    Markup('<span class="name whole m0">vit-s</span> has 5\xa0%')
    """
    kept = sorted(filter(None, {*names, *GLOSSARY}), key=len, reverse=True)
    known: set[str] = set()

    def marked(part: str) -> Markup:
        if part in names:
            place = Markup('<span class="name whole m{}">{}</span>')
            return place.format(names.index(part) % len(COLOURS), part)
        word = part if part in GLOSSARY else part.removesuffix("s")
        if word in known:
            return escape(part)
        known.add(word)
        link = Markup('<a class="term" href="#{}" data-tip="{}">{}</a>')
        return link.format(word_id(word), GLOSSARY[word], part)

    words = [re.escape(word) + ("" if word in names else "s?") for word in kept]
    return _mark(true_minus(text), words, marked)


def word_id(word: str) -> str:
    """Return the place of a glossary's word in the page."""
    return f"word-{word.replace(' ', '-')}"


FILTERS: dict[str, Callable[..., Any]] = {
    "number": format_number,
    "estimate": format_estimate,
    "minus": true_minus,
    "explain": explain,
    "word_id": word_id,
    "p_value": format_p,
    "held_in": held_in,
    "date": _date,
    "accuracy": _accuracy,
    "model_input": describe_input,
    "where": lambda claim: cite(claim["paper"], claim["figure"]),
    "code": mark_code,
    "whole": keep_whole,
}
