"""The processes of one job, which torchrun or accelerate launch started together.

torch.distributed says how many there are: also to code that made its process group itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from typing import Any

from zoo.errors import BAD_INPUT, UserError

LOST = ("gloo", "nccl", "connection closed by peer", "connection reset")


@contextmanager
def joined() -> Iterator[None]:
    """Let the processes of this job reach each other; nothing where there is one.

    Each process of a machine with GPUs gets one of its own. Tensors on the CPU go by gloo, those
    on GPUs by NCCL. The first process alone prints, but an error of any is told.

    Raises:
        UserError: there are more processes than GPUs, they do not find each other, or another one
            ended before this one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    import torch
    from torch import distributed

    if gpus := torch.cuda.device_count():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= gpus:
            raise UserError(f"expected at most one process per GPU ({gpus} here), got {local + 1}")
        torch.cuda.set_device(local)
    try:
        distributed.init_process_group()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            "WORLD_SIZE says that this is one of several processes, but they do not find each "
            f"other ({error}); start them by torchrun or accelerate launch"
        ) from None
    first = process_index() == 0
    try:
        with nullcontext() if first else _silence():
            yield
    except Exception as error:
        if not _is_lost(error):
            raise
        if not first:
            raise SystemExit(BAD_INPUT) from None  # one line is enough
        raise UserError(
            "another process of this job ended; run the same command again to continue"
        ) from error
    # After an error the others may be gone, and would be waited for.
    distributed.destroy_process_group()


@contextmanager
def _silence() -> Iterator[None]:
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        yield


def _is_lost(error: BaseException | None) -> bool:
    """Say whether an error, or what caused it, is that a process does not answer any more."""
    if error is None:
        return False
    text = str(error).lower()
    told = isinstance(error, RuntimeError) and any(word in text for word in LOST)
    return told or _is_lost(error.__cause__)


def process_count() -> int:
    """Return how many processes do this job together; 1 for one alone."""
    from torch import distributed

    together = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if together else 1


def process_index() -> int:
    """Return which of them this is, from 0. The first alone writes files and logs."""
    from torch import distributed

    return distributed.get_rank() if process_count() > 1 else 0


def summed(values: Sequence[float]) -> list[float]:
    """Return the sums over all processes, each of which calls this; in float64."""
    if process_count() == 1:
        return [*values]
    import torch
    from torch import distributed

    total = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(total)
    return [float(value) for value in total]


def gathered(value: Any, only: int | None = None) -> list[Any]:
    """Return what each process gave, in their order; each of them calls this.

    Where `only` one process is to know, the others get an empty list.
    """
    if process_count() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * process_count()
    if only is None:
        distributed.all_gather_object(values, value)
        return values
    mine = only == process_index()
    distributed.gather_object(value, values if mine else None, dst=only)
    return values if mine else []
