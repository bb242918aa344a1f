"""What passes took of networks, kept in files: asked for again, a network need not run again."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from zoo.files import json_digest, write_bytes
from zoo.models.files import LoadedModel, digest_in_memory
from zoo.models.wrapped import weights_digest

LIMIT = 4 << 30  # bytes on disk
OWN = "[0-9a-f]" * 64 + ".safetensors"  # a person's file in the folder is not removed
LOGITS = "logits"

logger = logging.getLogger(__name__)
Tensors = dict[str, torch.Tensor]


class Record:
    """What was taken of a network on a batch of images: its logits, and what hook points took."""

    def __init__(
        self, found: Tensors | None = None, write: Callable[[Tensors], None] | None = None
    ) -> None:
        self.found, self.write = found or {}, write

    def keep(self, taken: Tensors) -> None:
        """Add what a run of the network gave; it is written if it is more than there was."""
        known = taken.keys() <= self.found.keys()
        self.found |= taken
        if self.write and not known:
            self.write(self.found)


class Recorded:
    """A folder of records, one file for each network and batch of images.

    A file's name is a digest of all that decides its content: the network's spec and weights, the
    pixels of the batch, and `conditions`. Comparisons with other models, analyses or layers share
    it. What is damaged counts as missing.
    """

    def __init__(self, folder: Path, conditions: Mapping[str, Any], *, replay: bool = True) -> None:
        """Open a folder, which need not exist.

        Args:
            folder: where the files are.
            conditions: what else decides numbers (`zoo.study.identity.conditions`).
            replay: return what is there, rather than only write it again.
        """
        self.folder, self.conditions, self.replay = folder, conditions, replay
        self.models: dict[str, str] = {}  # their digests, by name
        self.left = LIMIT  # to write: more would drive out what the same pass has written

    def of(self, model: LoadedModel, images: NDArray[np.uint8]) -> Record:
        """Return the record of a network, known by its name, on images (n, height, width, 3)."""
        if model.name not in self.models:
            self.models[model.name] = digest_in_memory(model)
        pixels = hashlib.sha256(images.tobytes()).hexdigest()
        of = {"model": self.models[model.name], "images": [*images.shape, pixels]}
        path = self.folder / f"{json_digest({**of, **self.conditions})}.safetensors"
        return Record(_read(path) if self.replay else {}, lambda found: self._write(path, found))

    def _write(self, path: Path, found: Tensors) -> None:
        own = {key: found[key].detach().cpu().contiguous() for key in sorted(found)}
        content = save(own, metadata={"sha256": weights_digest(own)})
        self.left -= len(content)
        if self.left < 0:
            return
        try:
            write_bytes(path, content)
        except OSError as error:  # a full disk: the comparison goes on without
            logger.warning("%s: what networks give is not kept: %s", self.folder, error)
            self.left = 0

    def trim(self) -> None:
        """Remove the files that were not used for longest, beyond `LIMIT`."""
        total = 0
        with suppress(OSError):  # another process removes them too
            files = [(path.stat(), path) for path in self.folder.glob(OWN)]
            for stat, path in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
                total += stat.st_size
                if total > LIMIT:
                    path.unlink()


def _read(path: Path) -> Tensors:
    """Return what a file holds; nothing where it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            # Copied, since tensors inside the file are not aligned: kernels would round otherwise.
            found = {key: file.get_tensor(key).clone() for key in sorted(file.keys())}
            whole = file.metadata()["sha256"] == weights_digest(found)
        os.utime(path)  # it is in use
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return {}
    return found if whole else {}
