"""Fingerprints made on a Ray cluster, one task a model; Ray is the extra `ray`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.data.pictures import EvaluationImages
from zoo.device import parse_device
from zoo.errors import UserError, brief
from zoo.progress import OnProgress, no_progress
from zoo.registry.fingerprints import Kept, keep_all, keep_fingerprint
from zoo.registry.references import Resolved
from zoo.registry.store import Store, open_store

LOCAL, REMOTE = "ray", "ray://"


def keep_all_on_ray(
    store: Store,
    models: Sequence[Resolved],
    images: EvaluationImages,
    *,
    address: str,
    device: str,
    on_progress: OnProgress = no_progress,
) -> Iterator[Kept | str]:
    """Yield the fingerprint of each model, or why it has none, as `keep_all` does.

    A task does what `zoo fingerprint` on its machine would: it leaves the fingerprint in the store
    and makes none that exists, so a task that Ray repeats does no harm.

    Args:
        store: keeps models and fingerprints; a server, if other machines are to reach it.
        models: those to make fingerprints of.
        images: what they see; sent to each machine once.
        address: `ray` for the cores of this machine, `ray://HOST:PORT` for a cluster.
        device: where networks run: each task gets a GPU for `cuda`, else a core.
        on_progress: called for every model.

    Raises:
        UserError: Ray is not installed, or no cluster answers at the address.
    """
    ray = _connected(address)
    try:
        seen = ray.put(replace(images, images=images.images[:]))
        task = ray.remote(num_cpus=1, num_gpus=int(device.startswith("cuda")))(_keep)
        given = (seen, str(store.root), store.uri, device)
        asked = [task.remote(model, *given) for model in models]
        for done, (model, reference) in enumerate(zip(models, asked, strict=True)):
            on_progress(done, len(models), "models")
            try:
                found = ray.get(reference)
                if not isinstance(found, str):
                    # It may lie in another machine's cache: fetch it into this one's.
                    here = keep_fingerprint(store, model, images, device="cpu")
                    found = replace(here, made=found.made)
                yield found
            except ray.exceptions.RayError as error:
                yield f"{model.label}: its task on Ray failed ({brief(error)})"
        on_progress(len(models), len(models), "models")
    finally:
        ray.shutdown()


def check_address(address: str) -> str:
    """Return an address of Ray; `UserError` unless it is `ray` or `ray://HOST:PORT`."""
    if address != LOCAL and not (address.startswith(REMOTE) and address != REMOTE):
        raise UserError(f"--on: expected ray or ray://HOST:PORT, got {address!r}")
    return address


def _connected(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        import ray
    except ImportError:
        raise UserError("--on ray needs Ray: pip install 'vision-zoo[ray]'") from None
    try:
        ray.init(None if address == LOCAL else address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        # Its client may raise anything: no such host, another version of Ray or Python.
        raise UserError(
            f"--on {address}: no Ray cluster answers ({brief(error)}); start one: ray start --head"
        ) from None
    return ray


def _keep(
    model: Resolved, images: EvaluationImages, root: str, uri: str, device: str
) -> Kept | str:
    """Make one fingerprint in a worker of Ray, perhaps on another machine."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    with tempfile.TemporaryDirectory() as own:
        # Another machine may lack the project's folder; nothing in it is needed.
        try:
            store = open_store(Path(root) if Path(root).is_dir() else Path(own), create=False)
            (found,) = keep_all(store, [model], images, device=parse_device(device))
        except UserError as error:
            return f"{model.label}: {error}"
    return found
