"""The model card: what a person reads first, as Markdown that MLflow's pages show."""

from __future__ import annotations

from zoo.models.spec import ModelSpec

LONGEST = 4900  # characters; MLflow's column holds 5,000


def model_card(spec: ModelSpec, digest: str, *, test_count: int = 0) -> str:
    """Return the card of one version.

    Args:
        spec: that of the model.
        digest: its sha256.
        test_count: how many test images its accuracy was measured on; 0: not known.
    """
    tested = f" on {test_count} images" if test_count else ""
    settings = ", ".join(f"{k} {v}" for k, v in spec.kwargs.items())
    rows = [
        ("network", f"{spec.arch}{f' ({settings})' if settings else ''}"),
        ("parameters", f"{spec.parameters:,}"),
        ("input", f"{spec.image_size} × {spec.image_size} px RGB; other sizes are resized"),
        ("trained on", _data(spec)),
        ("test accuracy", _accuracy(spec, "test", tested)),
        ("validation accuracy", _accuracy(spec, "validation", "")),
        ("seed", str(spec.seed)),
        ("trained with", ", ".join(f"{k} {v}" for k, v in spec.environment.items()) or "not known"),
        ("sha256", digest),
    ]
    table = "\n".join(f"| {name} | {cell(value)} |" for name, value in rows)
    return f"| | |\n|---|---|\n{table}\n\n{_how_to_load(spec.name)}"[:LONGEST]


def name_card(spec: ModelSpec) -> str:
    """Return the description of a registered name, which all of its versions share."""
    data = f"{spec.source} / {spec.subset}" if spec.subset else spec.source or "data not known"
    return (
        f"**{cell(spec.arch)}** trained on **{cell(data)}**. Each seed or training is a version; "
        f"the alias `best` stands on the one with the highest validation accuracy.\n\n"
        f"{_how_to_load(spec.name)}"
    )[:LONGEST]


def cell(text: str) -> str:
    """Return text that stays text in a Markdown table: no markup, no HTML, no new column."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\`*_[]|":
        escaped = escaped.replace(sign, f"\\{sign}")
    return " ".join(escaped.split())


def _data(spec: ModelSpec) -> str:
    if not spec.subset:
        return spec.source or "not known"
    classes = len(spec.class_names)
    return f"{spec.source} / {spec.subset}: {spec.subset_count:,} images of {classes} classes"


def _accuracy(spec: ModelSpec, part: str, suffix: str) -> str:
    value = spec.metrics.get(f"{part}/accuracy")
    return "not measured" if value is None else f"{value:.3f}{suffix}, seed {spec.seed}"


def _how_to_load(name: str) -> str:
    return f'```python\nimport zoo\n\nmodel = zoo.load("{name}")\n```\n'
