"""The images to compare on: those stored with the models, once per test split, or a folder's."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from mlflow.entities import Run

from zoo.data.pictures import EvaluationImages, read_pictures
from zoo.data.sources import Split, labelled_folder
from zoo.data.subsets import (
    DESCRIPTION,
    IMAGES,
    LABELS,
    Subset,
    content_digest,
    described,
    load_subset,
    verify_subset,
)
from zoo.errors import UserError
from zoo.files import write_json
from zoo.files.folders import FolderKind, replacing_folder
from zoo.measures.sampling import balanced_order
from zoo.models.spec import SPEC, read_spec
from zoo.registry import runs
from zoo.registry.artifacts import fetch_file, missing_files
from zoo.registry.datasets import dataset, dataset_input
from zoo.registry.references import Resolved, check_digest
from zoo.registry.store import TEST_IMAGES, Store, open_store

LARGEST = 2048
FOLDER = "images"
FILES = (IMAGES, LABELS, DESCRIPTION)
CACHED = FolderKind(files=FILES)

logger = logging.getLogger(__name__)


def store_images(store: Store, test_folder: Path) -> str:
    """Store up to 2,048 images of a test split, unless they are stored; return its digest.

    From a larger split they are chosen evenly over the classes and get a digest of their own, but
    are found by the digest of the whole split, which models name. A run that has lost its files
    gets them again.

    Raises:
        UserError: the split is damaged.
    """
    subset = load_subset(test_folder)
    digest = subset.info.digest
    with store.translate_mlflow_errors(), store.lock(f"images-{digest[:16]}"):
        known = runs.search_runs(store, TEST_IMAGES, test_digest=digest)
        if finished := [run for run in known if runs.is_finished(run)]:
            _restore(store, finished, subset)
            return digest
        verify_subset(subset)
        kept = cut(subset, LARGEST)
        tags = {
            "zoo.test_digest": digest,
            "zoo.images_digest": kept.info.digest,
            "zoo.images": str(len(kept)),
            "zoo.source": kept.info.source,
            "mlflow.note.content": f"{len(kept)} of the {len(subset)} test images of "
            f"{kept.info.source}: what models trained on it are compared on.",
        }
        name = f"{kept.info.source} test {digest[:8]}"
        data = dataset(kept.info.source, "test", kept.info.digest, len(kept))
        run = runs.begin_run(store, TEST_IMAGES, name, tags, "zoo register")
        with runs.finishing(store, run):
            runs.log_inputs(store, run.info.run_id, [dataset_input(data, "evaluation")])
            _upload(store, run, kept)
        runs.keep_first(store, TEST_IMAGES, test_digest=digest)
    return digest


def fetch_images(store: Store, digest: str) -> Subset:
    """Return the stored images of a test split as memory maps, from the local cache if possible.

    `digest` is that of the whole split (`test_digest` of a model's spec); `info.digest` of the
    result is another one if fewer images were stored.

    Raises:
        UserError: there are no such images, or they are not the ones that were stored.
    """
    folder = store.cache / FOLDER / check_digest(digest, "digest of the test images")
    with contextlib.suppress(UserError):
        return _verified(folder)
    with store.translate_mlflow_errors(), store.lock(f"images-{digest[:16]}"):
        with contextlib.suppress(UserError):  # another process has fetched them meanwhile
            return _verified(folder)
        _download(store, digest, folder)
    return load_subset(folder)  # checked before it was put there


def evaluation_images(
    store: Store | None, models: Iterable[Resolved], data: Path | None, count: int | None
) -> EvaluationImages:
    """Return the images of a folder, or those stored with the first model that has any.

    At most `count` are read from a folder of pictures.

    Raises:
        UserError: there are none, or they are damaged.
    """
    if data is not None:
        if not data.is_dir():
            came = "a file" if data.exists() else "no such folder"
            raise UserError(
                f"{data}: expected a folder of pictures or a subset's (such as data/subsets/test), "
                f"got {came}"
            )
        if not (data / DESCRIPTION).is_file():
            return read_pictures(data, count)
        return EvaluationImages.of(_verified(data))
    for model in models:
        digest = model.tags.get("zoo.test_digest", "")
        if not digest and model.folder is not None:
            digest = read_spec(model.folder / SPEC).test_digest
        if digest:
            return EvaluationImages.of(fetch_images(store or open_store(create=False), digest))
    raise UserError(
        "none of these models comes with images to compare on: name a folder of pictures, or a "
        "subset's (such as data/subsets/test), by --data"
    )


def labelled_images(
    store: Store | None, models: Sequence[Resolved], data: Path | None, count: int | None
) -> tuple[Split, Sequence[str]]:
    """Return images to evaluate models on, and the names of their classes.

    `data` is a folder of classes, or a subset's; without it, the images stored with the models are
    used. At most `count` are taken, evenly over the classes.

    Raises:
        UserError: there are no images, or they have no labels.
    """
    if data is not None and data.is_dir() and not (data / DESCRIPTION).is_file():
        names, split = labelled_folder(data)
        return split.take(balanced_order(split.labels, seed=0)[:count]), names
    subset = evaluation_images(store, models, data, count)
    return Split(np.asarray(subset.labels)[:count], lambda i: subset.images[i]), subset.class_names


def cut(subset: Subset, largest: int) -> Subset:
    """Return at most `largest` images, as arrays, evenly over the classes."""
    if len(subset) <= largest and not subset.info.root:
        return subset
    chosen = balanced_order(np.asarray(subset.labels), subset.info.seed)[:largest]
    images, labels = subset.images[chosen], subset.labels[chosen]
    info = dataclasses.replace(
        subset.info,
        count=len(chosen),
        indices=[subset.info.indices[i] for i in chosen],
        digest=content_digest(images, labels, subset.info.class_names),
        root="",
    )
    return Subset(images, labels, info)


def _upload(store: Store, run: Run, kept: Subset) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        np.save(folder / IMAGES, kept.images)
        np.save(folder / LABELS, kept.labels)
        write_json(folder / DESCRIPTION, described(kept.info))
        store.client.log_artifacts(run.info.run_id, temporary, FOLDER)


def _restore(store: Store, finished: Iterable[Run], subset: Subset) -> None:
    """Upload the images again to finished runs that have lost a file."""
    for run in finished:
        if missing_files(store, f"{run.info.artifact_uri}/{FOLDER}", FILES):
            verify_subset(subset)
            _upload(store, run, cut(subset, LARGEST))
            logger.warning("%s: its files were lost; restored", run.info.run_name)


def _download(store: Store, digest: str, folder: Path) -> None:
    finished = filter(runs.is_finished, runs.search_runs(store, TEST_IMAGES, test_digest=digest))
    if (run := next(finished, None)) is None:
        raise UserError(
            f"the test images {digest[:12]} are not in the registry: run `zoo register` where the "
            "model was trained, or give images of your own"
        )
    with replacing_folder(folder, CACHED) as new, tempfile.TemporaryDirectory() as temporary:
        for name in FILES:
            try:
                address = f"{run.info.artifact_uri}/{FOLDER}"
                shutil.copyfile(fetch_file(store, address, name, temporary), new / name)
            except UserError as error:
                raise UserError(
                    f"the test images {digest[:12]} cannot be fetched: {error}; run `zoo register` "
                    "where they are, which brings them back"
                ) from None
        wanted = run.data.tags.get("zoo.images_digest", digest)
        try:
            came = _verified(new).info.digest
        except UserError as error:
            came = str(error)
        if came != wanted:
            raise UserError(
                f"the test images {digest[:12]} in the registry were changed: expected digest "
                f"{wanted[:12]}, got {came}; delete the run {run.info.run_id} and register again"
            )


def _verified(folder: Path) -> Subset:
    subset = load_subset(folder)
    verify_subset(subset)
    return subset
