"""`zoo show`: everything about one model."""

from __future__ import annotations

import click

from zoo.cli import options
from zoo.cli.output import print_json, print_pairs
from zoo.errors import counted


@click.command()
@click.argument("reference")
@options.as_json
def command(reference: str, as_json: bool) -> None:
    """Show one model: what it is, how it was trained, and how good it is.

    \b
    REFERENCE is NAME (its current version), NAME/3, NAME@alias, runs:/…, models:/… or a folder.

    \b
    Examples:
      zoo show vit-small
      zoo show vit-small@best --json
    """
    from zoo.models.spec import SPEC, read_spec
    from zoo.registry.listing import aliases_of, own_tags
    from zoo.registry.lookup import EXPERIMENT
    from zoo.registry.references import parse
    from zoo.registry.resolve import fetch_model, resolve
    from zoo.registry.store import open_store
    from zoo.registry.ui import version_link

    # A folder needs no registry.
    store = open_store(create=False) if parse(reference).is_registered else None
    model = resolve(store, reference)
    spec = read_spec(fetch_model(store, model) / SPEC)
    aliases = aliases_of(store, model) if store else []
    link = version_link(store, model) if store else ""
    if as_json:
        known = {"uri": model.uri, "version": model.version, "digest": model.digest, "link": link}
        print_json(known | {"aliases": aliases, "tags": model.tags, "spec": spec.as_dict()})
        return
    named = spec.class_names
    classes = counted(len(named), "class", "classes") if named else "no classifier"
    data = f"{spec.source} {spec.subset}".strip()
    # An imported model's images may be known from its weights' name; its seed is not known.
    trained: dict[str, object] = {}
    if spec.subset_count or not spec.origin:
        trained["trained on"] = f"{data}, {counted(spec.subset_count, 'image')}"
    if spec.known_seed is not None:
        trained["seed"] = spec.known_seed
    facts = {
        "model": model.label,
        "aliases": ", ".join(aliases),
        "experiment": model.tags.get(EXPERIMENT, ""),
        "tags": ", ".join(f"{key}={value}" for key, value in own_tags(model.tags).items()),
        "address": model.uri,
        "architecture": " ".join([spec.arch, *(f"{k}={v}" for k, v in spec.kwargs.items())]),
        "parameters": f"{spec.parameters:,}",
        "input": f"{spec.image_size} × {spec.image_size} pixels, {classes}",
        **trained,
        **{f"origin {name}": value for name, value in spec.origin.items()},
        **{name.replace("/", " "): f"{value:.4f}" for name, value in spec.metrics.items()},
        **{name.replace("_", " "): value for name, value in spec.training.items()},
        **{name.replace("_", " "): value for name, value in spec.lineage.items()},
        **spec.environment,
        "digest": model.digest,
        "page": link,
    }
    print_pairs({name: value for name, value in facts.items() if value != ""})
