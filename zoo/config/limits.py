"""The numbers that settings and options take, and the checks that name a wrong one."""

from __future__ import annotations

from zoo.config.mapping import Range
from zoo.errors import UserError, shown, unknown

SEED = Range(0, 2**32 - 1)  # NumPy takes no others
SIDE = Range(4, 4096, "pixels")
COUNT = Range(1, 2**31 - 1, "images")
EPOCHS = Range(1, 100_000)
STEPS = Range(0, 100_000_000, "steps")
BATCH = Range(1, 65_536, "images")
COMPARED_COUNT = Range(4, COUNT.high, "images")
COMPARED_BATCH = Range(4, 65_536, "images")  # the unbiased estimator of CKA needs four
CLASSES = Range(0, 100_000)
LEARNING_RATE = Range(0, 1000, above=True)


def check(where: str, holds: bool, expected: str, value: object) -> None:
    """Raise `UserError` with what was expected and what came, unless it `holds`."""
    if not holds:
        raise UserError(f"{where}: expected {expected}, got {shown(value)}")


def check_one_of(where: str, value: str, valid: tuple[str, ...]) -> None:
    """Raise `UserError` for a value that is none of the valid ones."""
    if value not in valid:
        raise unknown(where, value, valid)
