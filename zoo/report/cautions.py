"""What a reader must know before taking a difference for what the networks are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.data.trained_on import trained_on_note
from zoo.errors import listed
from zoo.study.results import ComparisonResults

ONE_SEED = (
    "One seed each: intervals cover only the choice of images; another seed may move a number "
    "farther."
)


def cautions(results: ComparisonResults) -> list[str]:
    """Say how training differed, which measures failed an audit, and how many seeds there are.

    First, how many of the images a model was trained on. The audit is that of `zoo audit`, where
    one of the same models was there to be found.
    """
    shared = results.provenance.get("trained_on", {})
    said = [trained_on_note(name, count, results.images) for name, count in shared.items()]
    models = results.provenance.get("models", ())
    steps = {model["name"]: model["steps"] for model in models if model.get("steps")}
    if len(set(steps.values())) > 1:
        (first, count), *others = steps.items()
        trained = [f"{first} was trained for {count:,} steps"]
        trained += [f"{name} for {count:,}" for name, count in others]
        said.append(f"{listed(trained)}: differences may come from that.")
    if recipes := _recipes(models):
        ways = "; ".join(f"{name}: {', '.join(parts)}" for name, parts in recipes.items())
        said.append(
            f"They were trained in different ways ({ways}): differences may come from that, "
            "and not from their architecture."
        )
    if failed := results.provenance.get("audit"):
        told = [f"{title} ({' and '.join(of)})" for title, of in failed.items()]
        said.append(
            "In an audit of these models, these measures did no better than chance at telling "
            f"seeds of an architecture from others, or trained from untrained: {', '.join(told)}."
        )
    seeds = {network.name: len(results.seeds(network)) for network in results.compared}
    if max(seeds.values(), default=0) == 1:
        said.append(ONE_SEED)
    elif max(seeds.values(), default=0) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in seeds.items())
        shown = ", ".join(f"{network.seed} of {network.name}" for network in results.compared)
        said.append(
            f"Seeds: {counts}. Numbers are means over seeds with intervals over them, and figures "
            f"show one seed of each ({shown}), where they do not say otherwise."
        )
    return said


def _recipes(models: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what is said of each model's training and not of all; nothing where that is none."""
    said = {model["name"]: model.get("training", "").split(", ") for model in models}
    shared = set.intersection(*map(set, said.values())) if said else set()
    # The first part is how long it was, which another sentence is about.
    own = {name: [part for part in parts[1:] if part not in shared] for name, parts in said.items()}
    known = all(len(parts) > 1 for parts in said.values())
    return own if known and any(own.values()) else {}
