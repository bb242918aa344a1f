"""What a reader must know before taking a difference for what the networks are."""

from __future__ import annotations

from zoo.study.results import ComparisonResults

ONE_SEED = (
    "One seed each: intervals say how far chance in the choice of images reaches; another seed may "
    "move a number farther."
)


def cautions(results: ComparisonResults) -> list[str]:
    """Say where numbers of steps differ, which measures failed an audit, and how many seeds.

    The audit is that of `zoo audit`, where one of the same models was there to be found.
    """
    said = []
    models = results.provenance.get("models", ())
    steps = {model["name"]: model["steps"] for model in models if model.get("steps")}
    if len(set(steps.values())) > 1:
        (first, count), *others = steps.items()
        trained = [f"{first} was trained for {count:,} steps"]
        trained += [f"{name} for {count:,}" for name, count in others]
        listed = f"{', '.join(trained[:-1])} and {trained[-1]}"
        said.append(f"{listed}: what differs may come from that.")
    if failed := results.provenance.get("audit"):
        told = [f"{title} ({' and '.join(of)})" for title, of in failed.items()]
        said.append(
            "In an audit of these models, these measures did no better than chance at telling "
            f"seeds of an architecture from others, or trained from untrained: {', '.join(told)}."
        )
    seeds = {network.name: len(results.seeds(network)) for network in results.compared}
    known = all(network.images for network in results.compared)  # how each was trained
    if known and max(seeds.values(), default=0) == 1:
        said.append(ONE_SEED)
    elif max(seeds.values(), default=0) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in seeds.items())
        shown = ", ".join(f"{network.seed} of {network.name}" for network in results.compared)
        said.append(
            f"Seeds: {counts}. Numbers are means over seeds with intervals over them, and figures "
            f"show one seed of each ({shown}), where they do not say otherwise."
        )
    return said
