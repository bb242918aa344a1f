"""Where a network is trained: device, precision and threads, by Accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from zoo.config import TrainConfig


@contextmanager
def accelerator_for(config: TrainConfig) -> Iterator[Accelerator]:
    """Give an accelerator with a run's precision and threads, and then restore the process."""
    threads = torch.get_num_threads()
    if config.threads:
        torch.set_num_threads(config.threads)
    # Accelerate keeps its precision for the whole process; a run must not inherit another's.
    AcceleratorState._reset_state()
    try:
        yield Accelerator(mixed_precision="bf16" if use_bf16(config.precision) else "no")
    finally:
        AcceleratorState._reset_state()
        torch.set_num_threads(threads)


def use_bf16(precision: str) -> bool:
    """Return whether a precision of the settings means bfloat16 on this machine."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without instructions for it, bfloat16 on a CPU is emulated and slow.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def environment(accelerator: Accelerator) -> dict[str, str]:
    """Return what decides the bits of a run besides its settings and its seed."""
    device = accelerator.device.type
    if device == "cuda":
        device = torch.cuda.get_device_name()
    elif device == "cpu":
        device = f"cpu ({torch.backends.cpu.get_cpu_capability()})"
    return {
        "torch": torch.__version__,
        "device": device,
        "precision": "bf16" if accelerator.mixed_precision == "bf16" else "float32",
        "threads": str(torch.get_num_threads()),
    }
