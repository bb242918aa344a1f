"""Compare registered models: found where it was done before, computed and logged where not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.analyses import choose_analyses
from zoo.comparison import REPORT, comparison_digest
from zoo.config import Settings
from zoo.data.subsets import Subset, load_subset, verify_subset
from zoo.errors import UserError
from zoo.files import read_json
from zoo.models.spec import SPEC, read_spec
from zoo.registry.comparisons import (
    ComparisonRun,
    fetch_comparison,
    fetch_report,
    find_comparison,
    log_comparison,
)
from zoo.registry.images import fetch_images
from zoo.registry.links import version_link
from zoo.registry.lookup import all_versions
from zoo.registry.references import Resolved
from zoo.registry.resolve import find_by_digest, load_resolved
from zoo.registry.runs import quoted
from zoo.registry.store import Store

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Compared:
    """A comparison in its folder and in MLflow; `found` where nothing had to be computed."""

    report: dict[str, Any]
    folder: Path
    run: ComparisonRun
    found: bool


def compare_registered(
    store: Store,
    models: Sequence[Resolved],
    folder: Path,
    *,
    data: Path | None = None,
    count: int | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    settings: Settings | None = None,
    device: str = "",
    force: bool = False,
    command: str = "",
    on_progress: OnProgress | None = None,
) -> Compared:
    """Compare models from the registry, or find that it was done.

    Args:
        store: keeps models, images and the comparison.
        models: two or more.
        folder: gets report.html, report.json, figures/ and arrays/.
        data: a subset's folder to take images from, instead of those that travel with the models.
        count: how many images; all of them by default.
        only: analyses to run, instead of all.
        skip: analyses to leave out.
        settings: everything else that decides the numbers.
        device: where the networks run; a GPU where there is one, by default.
        force: compute again.
        command: how it was asked for; stands in the report.
        on_progress: is called with (images done, images in all).

    Raises:
        UserError: no images to compare on, too few of them, or a damaged model.
    """
    settings = settings or Settings()
    names = unique_names(models)
    images = _images(store, models, data)
    count = min(count or len(images), len(images))
    siblings = other_seeds(store, models) if settings.references else []
    digest = comparison_digest(
        [(name, identity(model)) for name, model in zip(names, models, strict=True)],
        images.info.digest,
        count,
        choose_analyses(only, skip),
        settings,
        [model.digest for _, model in siblings],
    )
    # A second process that asks the same waits here, and then finds the answer.
    with store.lock(f"comparing-{digest[:16]}"):
        if not force and (found := _find(store, digest, folder, models)):
            return found
        comparison = _compute(
            store,
            models,
            names,
            images,
            count,
            siblings,
            digest,
            only=only,
            skip=skip,
            settings=settings,
            device=device,
            command=command,
            on_progress=on_progress,
        )
        report = comparison.save(folder)
        return Compared(report, folder, _log(store, folder, report, models, force), found=False)


def unique_names(models: Sequence[Resolved]) -> list[str]:
    """Call each model by its name, with the version where two share one."""
    shared = Counter(model.name for model in models)
    names = [m.name if shared[m.name] == 1 else f"{m.name} v{m.version}" for m in models]
    if len(set(names)) < len(names):
        raise UserError(f"expected different models, got {', '.join(m.reference for m in models)}")
    return names


def identity(model: Resolved) -> str:
    """Return what stands for a model in a comparison's digest."""
    if model.digest:
        return model.digest
    from zoo.models.pretrained import timm_identity

    return timm_identity(model.name)


def other_seeds(store: Store, models: Sequence[Resolved]) -> list[tuple[int, Resolved]]:
    """Find, for each model, one version of the same variant that was trained with another seed.

    Its likeness to the model is the ceiling against which a cross-model value is read.
    """
    compared = {model.digest for model in models}
    found = []
    for i, model in enumerate(models):
        if model.version is None:
            continue
        with store.explained():
            versions = all_versions(store, f"name={quoted(model.name)}")
        for version in versions:
            tags = version.tags
            same = tags.get("zoo.subset_digest") == model.tags.get("zoo.subset_digest")
            other = tags.get("zoo.seed") != model.tags.get("zoo.seed")
            digest = tags.get("zoo.sha256")
            if same and other and digest and digest not in compared:
                found.append((i, find_by_digest(store, model.name, digest)))
                break
    return found


def _images(store: Store, models: Sequence[Resolved], data: Path | None) -> Subset:
    if data is not None:
        subset = load_subset(data)
        verify_subset(subset)
        return subset
    for model in models:
        digest = model.tags.get("zoo.test_digest", "")
        if not digest and model.folder is not None:
            digest = read_spec(model.folder / SPEC).test_digest
        if digest:
            return fetch_images(store, digest)
    raise UserError(
        "none of these models brings images to compare on: name a folder with images.npy, "
        "labels.npy and subset.json by --data (such as data/subsets/test)"
    )


def _find(store: Store, digest: str, folder: Path, models: Sequence[Resolved]) -> Compared | None:
    here = folder / REPORT
    local = read_json(here) if here.is_file() else {}
    complete = local.get("digest") == digest
    run = find_comparison(store, digest)
    if run is None:
        if not complete:
            return None
        # Computed before, but the store was away or is new: only the logging is missing.
        return Compared(local, folder, log_comparison(store, folder, local, models), found=True)
    if complete:
        return Compared(local, folder, run, found=True)
    fetch_comparison(store, run, folder)
    return Compared(fetch_report(store, run), folder, run, found=True)


def _compute(
    store: Store,
    models: Sequence[Resolved],
    names: Sequence[str],
    images: Subset,
    count: int,
    siblings: Sequence[tuple[int, Resolved]],
    digest: str,
    *,
    only: Sequence[str],
    skip: Sequence[str],
    settings: Settings,
    device: str,
    command: str,
    on_progress: OnProgress | None,
) -> Any:
    import torch

    from zoo.claims import judge
    from zoo.comparison import Comparison
    from zoo.engine import compare_models

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    findings = compare_models(
        [load_resolved(store, model, name=name) for model, name in zip(models, names, strict=True)],
        images.images[:count],
        images.labels[:count],
        class_names=images.info.class_names,
        only=only,
        skip=skip,
        siblings=[(i, load_resolved(store, model, name=names[i])) for i, model in siblings],
        settings=settings,
        device=device,
        on_progress=on_progress,
    )
    return Comparison(
        findings,
        tuple(judge(findings)),
        digest,
        images.info.digest,
        images.info.source,
        command,
        tuple(version_link(store, model) for model in models),
    )


def _log(
    store: Store, folder: Path, report: dict[str, Any], models: Sequence[Resolved], force: bool
) -> ComparisonRun:
    try:
        return log_comparison(store, folder, report, models, force=force)
    except UserError as error:
        raise UserError(
            f"the comparison is complete in {folder}, but could not be logged: {error}; "
            "the same command logs it later without computing it again"
        ) from None
