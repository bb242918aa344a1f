"""The model card: what a person reads first, as Markdown that MLflow's pages show.

It is the description of a version and the README.md among its files. What comes from outside
(names of runs, classes, sources, settings) is escaped: no markup, no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoo.models.spec import ModelSpec, describe_training

CARD = "README.md"
LONGEST = 4900  # characters; MLflow's column holds 5,000
LONGEST_CELL = 300
ORIGIN = {
    "source": "weights from",
    "url": "at",
    "licence": "licence",
    "weights_sha256": "sha256 of the weights' file",
}
LINEAGE = {
    "start": "started from",
    "start_sha256": "sha256 of what it started from",
    "teacher": "teacher",
    "teacher_sha256": "sha256 of the teacher",
}


def model_card(spec: ModelSpec, digest: str) -> str:
    """Return the card of one version; `digest` is its sha256."""
    tested = f" on {spec.test_count:,} images" if spec.test_count else ""
    rows = [
        ("network", f"{spec.arch} {_settings(spec.kwargs)}"),
        ("parameters", f"{spec.parameters:,}"),
        ("input", f"{spec.image_size} × {spec.image_size} px RGB; other sizes are resized"),
        ("classes", f"{len(spec.class_names)}: {', '.join(spec.class_names)}"),
        *_origin(spec),
        ("trained on", _data(spec)),
        ("training", describe_training(spec) or "not known"),
        *((title, spec.lineage[key]) for key, title in LINEAGE.items() if key in spec.lineage),
        ("training accuracy", _accuracy(spec, "train", "")),
        ("test accuracy", _accuracy(spec, "test", tested)),
        ("validation accuracy", _accuracy(spec, "validation", "")),
        ("seed", "not known" if spec.known_seed is None else str(spec.known_seed)),
        ("trained with", ", ".join(f"{k} {v}" for k, v in spec.environment.items()) or "not known"),
        ("sha256", digest),
    ]
    table = "\n".join(f"| {name} | {cell(_short(value))} |" for name, value in rows)
    card = f"{_first_line(spec)}\n\n| | |\n|---|---|\n{table}\n\n{_how_to_load(spec.name)}"
    return card[:LONGEST]


def _first_line(spec: ModelSpec) -> str:
    """Return the line of the card that MLflow's lists of versions show: it has no markup."""
    seed = "" if spec.known_seed is None else f", seed {spec.known_seed}"
    value = spec.metrics.get("test/accuracy")
    if value is None:
        return f"{cell(_short(spec.name))}{seed}: accuracy not measured."
    tested = f"{spec.test_count:,} test images" if spec.test_count else "its test images"
    return f"{cell(_short(spec.name))}{seed}: right on {100 * value:.1f} % of {tested}."


def name_card(spec: ModelSpec, name: str) -> str:
    """Return the description of a registered name, shared by all its versions."""
    data = f"{spec.source} / {spec.subset}" if spec.subset else spec.source or "data not known"
    return (
        f"**{cell(_short(spec.arch))}** trained on **{cell(_short(data))}**. Each seed or "
        "training is a version; the alias `current` stands on the one that the name alone means, "
        "`best` on the one with the highest validation accuracy.\n\n"
        f"{_how_to_load(name)}"
    )[:LONGEST]


def fitting(lines: Sequence[str]) -> str:
    """Join as many lines of Markdown as MLflow accepts.

    >>> len(fitting(["x" * 3000, "y" * 3000]))
    3000
    """
    text = "\n".join(lines)
    return text if len(text) <= LONGEST else text[: LONGEST + 1].rpartition("\n")[0]


def cell(text: str) -> str:
    """Return text escaped for a Markdown table: no markup, no HTML, no new column."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\`*_[]|~":
        escaped = escaped.replace(sign, f"\\{sign}")
    return " ".join(escaped.split())


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"


def _settings(kwargs: dict[str, object]) -> str:
    return f"({', '.join(f'{k} {v}' for k, v in kwargs.items())})" if kwargs else ""


def _origin(spec: ModelSpec) -> list[tuple[str, str]]:
    """Say where imported weights are from and what their licence is."""
    if not spec.origin:
        return []
    known = {"source": "not known", "licence": "not known"} | spec.origin
    package = " ".join(known[key] for key in ("package", "version") if key in known)
    rows = [(label, known[key]) for key, label in ORIGIN.items() if key in known]
    return [*rows, ("needs the package", package)] if package else rows


def _data(spec: ModelSpec) -> str:
    if not spec.subset:
        return spec.source or "not known"
    classes = len(spec.class_names)
    return f"{spec.source} / {spec.subset}: {spec.subset_count:,} images of {classes} classes"


def _accuracy(spec: ModelSpec, part: str, suffix: str) -> str:
    value = spec.metrics.get(f"{part}/accuracy")
    return "not measured" if value is None else f"{value:.3f}{suffix}, seed {spec.seed}"


def _how_to_load(name: str) -> str:
    # MLflow accepts no name that could end the code block.
    plain = name if all(c.isalnum() or c in "._+-" for c in name) else "NAME"
    load = f'model = zoo.load("{plain}")  # its current version; a given one: "{plain}/1"'
    return f"```python\nimport zoo\n\n{load}\n```\n"
