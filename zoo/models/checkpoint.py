"""Weights out of files as training programs leave them, told by content and not by suffix.

Nothing in a file is run. A checkpoint of timm's or Lightning's names classes beside its weights
(arguments, paths, numbers of NumPy's): each of them is read as a placeholder that keeps nothing.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoo.errors import UserError, brief, counted

Weights = dict[str, torch.Tensor]

# Where training programs put a network's weights, and what they call its moving average.
PLAIN = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights")
AVERAGED = re.compile(r"(^|[._])(ema|averaged?|swa)([._]|$)")
# What stands in names of compiled and sharded networks, and of checkpointed activations.
WRAPPER = re.compile(r"_orig_mod\.|_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.")
PARALLEL = "module."  # before each name, of data-parallel training
COUNTER = "n_averaged"  # of torch's AveragedModel, beside its weights
LEVELS = 4  # of names, looked at for a prefix
OTHER_FILES = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: git lfs pull fetches"),
    (b"<", "a web page or XML: download the file itself"),
    (b"\x1f\x8b", "gzip: unpack it first"),
    (b"\x89HDF", "HDF5, as of Keras: convert it to safetensors"),
)


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a network in a file: `key` says where they stood, `notes` what was chosen."""

    path: Path
    weights: Weights
    key: str = ""
    notes: tuple[str, ...] = ()


class _Placeholder:
    """Stands for an object of a class that is not read: takes anything, keeps and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> _Placeholder:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def read_checkpoint(path: Path, key: str = "") -> Checkpoint:
    """Read the weights out of a file: safetensors, or whatever `torch.save` made.

    Where a file has averaged weights beside plain ones, the averaged ones are taken, since they
    are what is evaluated; a note says so.

    Args:
        path: the file, whatever its suffix.
        key: where in it the weights are, such as `model` or `ema.module`; found by itself where
            only one place can be meant.

    Raises:
        UserError: another kind of file, a damaged one, one without weights, or with several
            networks of which none is named.
    """
    content = _read(path)
    found = dict(_networks(content))
    if not found:
        raise UserError(f"{path}: expected a network's weights; {_what(content)}")
    chosen, notes = _choose(path, found, key)
    weights = {
        WRAPPER.sub("", name): tensor for name, tensor in found[chosen].items() if name != COUNTER
    }
    kinds = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    if low := [str(kind).removeprefix("torch.") for kind in kinds if kind.itemsize < 4]:
        notes.append(f"stored as {' and '.join(sorted(low))}, kept and run as float32")
    return Checkpoint(path, weights, chosen, tuple(notes))


def _read(path: Path) -> Any:
    """Return what a file holds, with tensors alone as objects of a class."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"--weights: expected a file, got {path}")
    with path.open("rb") as file:
        start = file.read(64)
    for sign, what in OTHER_FILES:
        if start.lstrip().startswith(sign):
            raise UserError(f"{path} is no file of weights but {what}")
    try:
        if start[8:9] == b"{":  # after the length of safetensors' header
            return load_file(path)
        return _read_torch(path)
    except Exception as error:
        # zipfile, pickle, safetensors and torch each raise their own.
        raise UserError(
            f"{path} is not a plain state_dict or checkpoint, or is damaged ({brief(error)}); "
            "download it again, or save the network's state_dict alone"
        ) from None


def _read_torch(path: Path) -> Any:
    with ExitStack() as stack:
        mapped = zipfile.is_zipfile(path)
        if mapped:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
            stack.enter_context(
                torch.serialization.safe_globals([(_Placeholder, name) for name in names])
            )
        # Mapped, since a checkpoint may hold an optimizer's state of twice the weights.
        file: Any = path
        if path.suffix == ".safetensors":  # which torch would take the file for
            file, mapped = stack.enter_context(path.open("rb")), False
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)


def _networks(content: Any, path: str = "", level: int = 0) -> Iterator[tuple[str, Weights]]:
    """Yield every mapping from names to tensors alone, with the keys that lead to it."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    tensors = [v for v in content.values() if isinstance(v, torch.Tensor)]
    if len(tensors) == len(content) and any(t.ndim for t in tensors):
        yield path, dict(content)
    elif level < 2:
        for name, value in content.items():
            yield from _networks(value, f"{path}.{name}" if path else name, level + 1)


def _what(content: Any) -> str:
    """Say what a file without weights holds."""
    if isinstance(content, _Placeholder):
        return "it holds a whole network, which is code: save its state_dict() alone"
    if isinstance(content, Mapping):
        other = [str(k) for k, v in content.items() if not isinstance(v, torch.Tensor)]
        return f"got something else in {', '.join(map(repr, other[:4])) or 'it: nothing'}"
    return f"got {type(content).__name__}"


def _choose(path: Path, found: Mapping[str, Weights], key: str) -> tuple[str, list[str]]:
    listed = ", ".join(found)
    if key:
        if key not in found:
            raise UserError(f"{path}: no weights in --key {key}; there are: {listed or 'none'}")
        return key, []
    if len(found) == 1:
        return next(iter(found)), []
    averaged = [name for name in found if AVERAGED.search(name)]
    others = [name for name in found if name not in averaged]
    plain = [name for name in others if name in PLAIN] or others
    chosen = averaged or plain
    if len(chosen) > 1 or len(plain) > 1:
        such = (plain or averaged)[0]
        raise UserError(f"{path} holds weights in {listed}: choose by --key, as --key {such}")
    left = next(name for name in [*plain, *others] if name != chosen[0])
    what = "the averaged weights" if averaged else "the weights"
    return chosen[0], [f"{what} in {chosen[0]!r} were taken; --key {left} takes the others"]


def match_names(
    checkpoint: Checkpoint, expected: Mapping[str, torch.Tensor], prefix: str = ""
) -> tuple[Weights, list[str]]:
    """Return weights under the names that a network has, and notes on what was left out.

    Training programs hold a network as a part of something larger: `model.` or `backbone.` comes
    before its names, and losses or other networks stand beside it. Of all such beginnings, the
    one is taken away that leaves most of the network's names.

    Args:
        checkpoint: what was read.
        expected: the network's own weights, or such with their names.
        prefix: the beginning to take, instead of the one found.

    Raises:
        UserError: no name begins so, or two beginnings do equally well.
    """
    weights = checkpoint.weights
    beginning, notes = _chosen_beginning(checkpoint, expected, prefix)
    if not beginning:  # as they are, or in another library's format, which timm may know
        parallel = all(name.startswith(PARALLEL) and name not in expected for name in weights)
        return {n.removeprefix(PARALLEL) if parallel else n: t for n, t in weights.items()}, []
    kept = {n.removeprefix(beginning): t for n, t in weights.items() if n.startswith(beginning)}
    if left := [name for name in weights if not name.startswith(beginning)]:
        notes.append(
            f"{counted(len(left), 'tensor')} outside {beginning!r} left out, such as {left[0]!r}"
        )
    return kept, notes


def _chosen_beginning(
    checkpoint: Checkpoint, expected: Mapping[str, torch.Tensor], prefix: str
) -> tuple[str, list[str]]:
    """Return the beginning to take away, empty where none has to be, and a note on a choice."""
    weights, path = checkpoint.weights, checkpoint.path
    begun = {prefix.rstrip(".") + "."} if prefix else {"", *_beginnings(weights)}
    if prefix and not any(name.startswith(tuple(begun)) for name in weights):
        firsts = sorted({name.partition(".")[0] for name in weights})
        raise UserError(
            f"{path}: no name begins with --prefix {prefix}; they begin with {', '.join(firsts)}"
        )
    score = {
        b: sum(name.startswith(b) and name.removeprefix(b) in expected for name in weights)
        for b in begun
    }
    best = max(score.values())
    chosen = sorted((b for b in begun if score[b] == best), key=len)
    if "" in chosen or len(chosen) == 1:
        return chosen[0], []
    averaged = [b for b in chosen if AVERAGED.search(b)]
    if len(averaged) == 1:
        other = next(b for b in chosen if b not in averaged)
        return averaged[0], [f"the averaged weights {averaged[0]!r} were taken, not {other!r}"]
    raise UserError(
        f"{path} holds several networks that fit, {', '.join(chosen)}: choose by --prefix, as "
        f"--prefix {chosen[0].rstrip('.')}"
    )


def _beginnings(names: Mapping[str, Any]) -> set[str]:
    parts = [name.split(".")[:-1][:LEVELS] for name in names]
    return {".".join(some[:i]) + "." for some in parts for i in range(1, len(some) + 1)}


def resampled(weights: Weights, network: Mapping[str, torch.Tensor]) -> list[str]:
    """Return a note on weights that a network took although it has them in another shape."""
    changed = [
        f"{name} from {_shape(tensor)} to {_shape(network[name])}"
        for name, tensor in weights.items()
        # A counter may be one number in either shape.
        if name in network and network[name].numel() != tensor.numel()
    ]
    told = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if changed[3:] else "")
    return [f"resampled to the network's grid by timm: {told}"] if changed else []


def _shape(tensor: torch.Tensor) -> str:
    return " × ".join(map(str, tensor.shape))


def check_head(
    checkpoint: Checkpoint,
    weights: Weights,
    expected: Mapping[str, torch.Tensor],
    heads: tuple[str, ...],
    what: str,
) -> None:
    """Raise `UserError`, with the remedy, where a classifier is missing or has another size.

    Args:
        checkpoint: where the weights are from.
        weights: under the network's names.
        expected: the network's own.
        heads: paths of its classifiers.
        what: the network, for the message.
    """
    for name in (f"{head}.weight" for head in heads):
        has, needs = name in weights, name in expected
        if needs and not has and any(other in weights for other in expected):
            raise UserError(
                f"{checkpoint.path} holds no classifier ({name}) for {what}: take the network "
                "without one by --no-head"
            )
        given = len(weights[name]) if has else 0
        if has and not needs:
            raise UserError(
                f"{checkpoint.path} holds a classifier of {given} outputs ({name}), and {what} is "
                "asked for without: leave it out by --ignore-head"
            )
        if has and needs and given != (own := len(expected[name])):
            raise UserError(
                f"{checkpoint.path}: the classifier {name} has {given:,} outputs, that of {what} "
                f"{own:,}: say --classes {given} (or a file of names), or leave it out by "
                "--ignore-head"
            )
