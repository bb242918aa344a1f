"""Where networks run: a device's name, checked before anything is loaded."""

from __future__ import annotations

from zoo.errors import UserError


def parse_device(name: str, *, doubles: bool = True) -> str:
    """Return the device of a name; for none, a GPU where there is one that serves.

    Args:
        name: "" for none.
        doubles: 64-bit numbers are needed, as for similarities; Apple's GPUs have none.

    Raises:
        UserError: it cannot be used.
    """
    import torch

    if not name:
        apple = not doubles and torch.backends.mps.is_available()
        return "cuda" if torch.cuda.is_available() else "mps" if apple else "cpu"
    try:
        torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}: expected cpu, cuda or cuda:1") from None
    try:
        torch.zeros(1, dtype=torch.float64 if doubles else torch.float32, device=name).item()
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
