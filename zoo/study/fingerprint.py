"""A network's fingerprint on a set of images: its Gram matrices at a few depths, in one file.

It is what CKA with any other network on the same images needs, so that a network runs once and
not again for every other one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zoo.config import DEPTHS, FEATURES, LOGITS, POINTS, Settings
from zoo.errors import UserError
from zoo.files import code_digest
from zoo.measures.features import DegenerateError
from zoo.measures.fingerprints import Vector, fingerprint_length, fingerprint_of
from zoo.measures.sampling import even_batches
from zoo.study.accumulator import Accumulator, Batch

if TYPE_CHECKING:  # fingerprints are read without torch
    import torch

    from zoo.capture.hook_points import HookPoint
    from zoo.measures.linear_cka import CentredGram
    from zoo.models.files import LoadedModel
    from zoo.study.networks import ComparedNetwork

IMAGES = 512
SETTINGS = Settings(references=False)
CODE = (
    "capture",
    "measures/fingerprints.py",
    "measures/linear_cka.py",
    "models",
    "study/axes.py",
    "study/fingerprint.py",
    "study/networks.py",
    "study/one_pass.py",
    "study/prepare.py",
)


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a network: a vector of length 1 for each of `POINTS`.

    `layers` names the layer that stands for each point. `problems` says of the points without a
    vector why there is none. `batches` are the images in each batch. `deterministic` and
    `mixes_images` are as of a `Network`.
    """

    family: str
    layers: Mapping[str, str]
    batches: tuple[int, ...]
    vectors: Mapping[str, Vector]
    problems: Mapping[str, str] = field(default_factory=dict)
    deterministic: bool = True
    mixes_images: bool = False


def fingerprint_key(model: str, images: str) -> str:
    """Return the identity of a fingerprint, from the digests of its model and its images.

    Hardware and libraries are not in it: what they change is rounding, and the fingerprints of
    several machines are to be compared. The file names them.
    """
    identity = {
        "model": model,
        "images": images,
        "points": POINTS,
        "batch_size": SETTINGS.batch_size,
        "code": _code(),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    return code_digest(CODE)


def fingerprint(
    model: LoadedModel, images: NDArray[np.uint8], *, device: str = "cpu"
) -> Fingerprint:
    """Run a network once over images and keep its Gram matrices.

    Args:
        model: any; what it lacks is named in `problems`.
        images: (n, height, width, 3) uint8, n >= 4.
        device: where it runs.
    """
    import torch

    from zoo.study.networks import Study
    from zoo.study.one_pass import run_pass
    from zoo.study.prepare import look_at

    where = torch.device(device)
    network = look_at(model, SETTINGS, where)
    study = Study((network,), images, None, (), (), SETTINGS, where)
    grams = _Grams(network)
    run_pass(study, [grams])
    return dataclasses.replace(
        grams.fingerprint(batches_of(len(images))),
        deterministic=network.deterministic,
        mixes_images=network.mixes_images,
    )


def batches_of(images: int) -> tuple[int, ...]:
    """Return how many images are in each batch of a fingerprint."""
    return tuple(stop - start for start, stop in even_batches(images, SETTINGS.batch_size))


class _Grams(Accumulator):
    """Keeps the U-centred Gram matrices of every point, batch by batch."""

    def __init__(self, network: ComparedNetwork) -> None:
        from zoo.capture.hook_points import HookPoint

        self.family, self.layers = network.family, chosen_layers(network)
        self.points: dict[HookPoint, list[str]] = {}
        for point, layer in self.layers.items():
            if point != LOGITS:
                at = HookPoint(layer, "input" if point == FEATURES else "output")
                self.points.setdefault(at, []).append(point)
        self.waiting: list[tuple[Sequence[str], CentredGram]] = []
        self.grams: dict[str, list[NDArray[np.float64]]] = {point: [] for point in POINTS}
        self.problems = {point: "has no such layer" for point in POINTS if point not in self.layers}

    def hook_points(self, index: int) -> Iterable[HookPoint]:
        return self.points

    def observe(self, index: int, hook_point: HookPoint, value: torch.Tensor) -> None:
        if hook_point.kind == "input" and value[0].numel() != value.shape[1]:
            self.problems.setdefault(FEATURES, "is not one vector an image")
            return
        self._keep(self.points[hook_point], value)

    def end_batch(self, batch: Batch) -> None:
        from zoo.measures.linear_cka import NOT_FINITE

        self._keep([LOGITS], batch.logits[0])
        # Only here does the device's work have to be done.
        for points, gram in self.waiting:
            side = math.isqrt(gram.values.numel())
            square = gram.values.cpu().numpy().reshape(side, side)
            for point in points:
                self.grams[point].append(square)
                if gram.problem == NOT_FINITE:  # constant in one batch, it may not be in another
                    self.problems.setdefault(point, gram.problem)
        self.waiting = []

    def _keep(self, points: Sequence[str], value: torch.Tensor) -> None:
        from zoo.measures.linear_cka import centred_gram

        self.waiting.append((points, centred_gram(value)))

    def fingerprint(self, batches: tuple[int, ...]) -> Fingerprint:
        vectors, problems = {}, dict(self.problems)
        for point, grams in self.grams.items():
            if point in problems:
                continue
            if len(grams) != len(batches):
                problems[point] = "never ran"
                continue
            try:
                vectors[point] = fingerprint_of(grams)
            except DegenerateError as error:
                problems[point] = str(error)
        return Fingerprint(self.family, self.layers, batches, vectors, problems)


def chosen_layers(network: ComparedNetwork) -> dict[str, str]:
    """Return the layer that stands for each point: at a depth the nearest one, the first of two.

    Features are what goes into the last layer; logits are what the network gives. The depth of a
    network without blocks is that of its layers before the classifier: logits are no last block.
    """
    from zoo.study.axes import layer_axis
    from zoo.study.networks import block_of

    chosen, heads = {}, network.trace.of_role("head")
    among = [n for n in network.layers if network.trace[n].role in ("stem", "block")]
    depths = layer_axis([(network, name) for name in among])["depth"][1]
    if not network.trace.of_role("block"):
        among = [n for n in network.layers if block_of(heads, n) < 0]
        depths = np.arange(1, len(among) + 1) / max(len(among), 1)
    if among:
        far = {d: np.abs(depths - float(d)).round(9) for d in DEPTHS}  # a tie is none in floats
        chosen = {d: among[int(distance.argmin())] for d, distance in far.items()}
    names = [layer.name for layer in network.trace]
    if names and len(network.trace.output) == 1:
        chosen[FEATURES] = names[-1]
    return chosen | {LOGITS: "output"}


def write_fingerprint(found: Fingerprint, key: str, made_by: Mapping[str, str]) -> bytes:
    """Return a fingerprint as safetensors, with a digest of every vector.

    Args:
        found: what is kept.
        key: its identity.
        made_by: how and where, in words; not part of the identity.
    """
    about = dataclasses.asdict(found) | {"key": key, "made_by": dict(made_by)}
    about["vectors"] = {point: _digest(vector) for point, vector in found.vectors.items()}
    return save(dict(found.vectors), metadata={"zoo": json.dumps(about, sort_keys=True)})


def read_fingerprint(path: Path, key: str) -> Fingerprint:
    """Read a fingerprint and check it; nothing in it is executed.

    Raises:
        UserError: the file is damaged, or another fingerprint's.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["zoo"])
            vectors = {point: file.get_tensor(point) for point in about["vectors"]}
        batches = tuple(int(n) for n in about["batches"])
        shape = (fingerprint_length(batches),)
        whole = (
            about["key"] == key
            and sorted([*about["vectors"], *about["problems"]]) == sorted(POINTS)
            and all(v.shape == shape and v.dtype == np.float32 for v in vectors.values())
            and all(_digest(v) == about["vectors"][point] for point, v in vectors.items())
        )
        if whole:
            texts: Any = (about["layers"], about["problems"])
            layers, problems = ({str(k): str(v) for k, v in each.items()} for each in texts)
            known = {key: bool(about[key]) for key in ("deterministic", "mixes_images")}
            return Fingerprint(str(about["family"]), layers, batches, vectors, problems, **known)
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError):
        pass
    raise UserError(f"{path} is damaged, or another fingerprint: remove it")


def read_vector(path: Path, point: str) -> Vector:
    """Read one vector of a fingerprint that was checked."""
    with safe_open(path, framework="numpy") as file:
        vector: Vector = file.get_tensor(point)
    return vector


def _digest(vector: Vector) -> str:
    return hashlib.sha256(np.ascontiguousarray(vector).tobytes()).hexdigest()
