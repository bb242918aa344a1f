"""Where networks run: a device's name, checked before anything is loaded."""

from __future__ import annotations

from zoo.errors import UserError


def parse_device(name: str) -> str:
    """Return the device of a name, a GPU where there is one for none; `UserError` if unusable."""
    import torch

    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}: expected cpu, cuda or cuda:1") from None
    try:
        torch.zeros(1, dtype=torch.float64, device=name).item()
    except TypeError:  # Apple's GPUs
        raise UserError(
            f"device {name!r} has no 64-bit numbers, which similarities need; cpu has"
        ) from None
    except (RuntimeError, AssertionError, NotImplementedError):  # torch without CUDA asserts
        raise UserError(f"device {name!r} is not available here; cpu always is") from None
    return name


def describe_device(name: str) -> dict[str, str]:
    """Return what decides the last digits of numbers: device, threads and precision.

    Args:
        name: as `parse_device` returned it.
    """
    import torch

    device = torch.device(name)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": str(torch.get_num_threads()),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
