"""Where a network is trained: device, precision and threads, by Accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from zoo.config import TrainConfig
from zoo.processes import process_count


@contextmanager
def accelerator_for(config: TrainConfig, device: str) -> Iterator[Accelerator]:
    """Give an accelerator with a run's precision and threads, and then restore the process.

    Args:
        config: precision and threads.
        device: as `zoo.device.parse_device` returns it.
    """
    threads = torch.get_num_threads()
    if config.threads:
        torch.set_num_threads(config.threads)
    # Accelerate keeps precision and device for the whole process; a run must not inherit another's.
    AcceleratorState._reset_state(reset_partial_state=True)
    precision = "bf16" if use_bf16(config.precision, device) else "no"
    on_gpu = torch.cuda.device(device) if device.startswith("cuda") else nullcontext()
    try:
        with on_gpu:
            yield Accelerator(mixed_precision=precision, cpu=device.startswith("cpu"))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.set_num_threads(threads)


def use_bf16(precision: str, device: str = "") -> bool:
    """Return whether a precision of the settings means bfloat16 on a device of this machine."""
    if precision != "auto":
        return precision == "bf16"
    if not device.startswith("cpu") and torch.cuda.is_available():
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
    } | ({"processes": str(process_count())} if process_count() > 1 else {})
