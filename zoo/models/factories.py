"""Networks that a user's own code builds: `package.module:factory`, called only where trusted.

A spec may come from anyone who can write to the registry. A name in it is looked up and called
only if the user of this machine has said so, by `zoo import` or by `ZOO_TRUST`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.errors import UserError
from zoo.files import find_root, write_text

NAME = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
LIBRARIES = ("timm:", "torchvision:")
VARIABLE = "ZOO_TRUST"


def is_factory(arch: str) -> bool:
    """Say whether a name is that of a user's own code, not of a model that a library has."""
    return bool(NAME.match(arch)) and not arch.startswith(LIBRARIES)


def trusted_file() -> Path:
    """Return the file that names this project's trusted factories, one in a line."""
    return find_root() / ".zoo" / "trusted-factories"


def trusted_factories() -> list[str]:
    """Return what the project's file and the environment trust."""
    path = trusted_file()
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [*lines, *os.environ.get(VARIABLE, "").split(",")]
    return [name.strip() for name in names if name.strip()]


def trust(factory: str) -> None:
    """Write a factory into the project's file, once."""
    known = trusted_factories()
    if factory not in known:
        path = trusted_file()
        before = path.read_text() if path.is_file() else ""
        write_text(path, f"{before}{factory}\n")


def find_factory(factory: str, origin: Mapping[str, str] | None = None) -> Callable[..., Any]:
    """Import a trusted factory.

    Args:
        factory: `package.module:name`.
        origin: that of the model's spec; its `version` is named where the package is missing.

    Raises:
        UserError: its package is missing, it is not trusted, or importing it fails.
    """
    _check_installed(factory, (origin or {}).get("version"))
    if factory not in trusted_factories():
        raise UserError(
            f"{factory} is code that zoo would have to run, and you have not trusted it: where you "
            f"do, set {VARIABLE}={factory} or add it to {trusted_file()}"
        )
    return import_factory(factory)


def import_factory(factory: str) -> Callable[..., Any]:
    """Import a factory that the user has asked for; what it stands in is run.

    Raises:
        UserError: its package is missing, or importing it fails.
    """
    _check_installed(factory)
    module, _, name = factory.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        # A user's module may raise anything while it is imported.
        raise UserError(f"cannot import {factory}: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise UserError(f"{factory}: expected a function or class, got {type(found).__name__}")
    return found


def _check_installed(factory: str, version: str | None = None) -> None:
    """Raise `UserError` where a factory's package is not here; runs nothing of it."""
    package = factory.split(":")[0].split(".")[0]
    if str(find_root()) not in sys.path:
        sys.path.append(str(find_root()))
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # a module that no file stands for, such as __main__
        found = None
    if found is None:
        raise UserError(
            f"{factory} needs the Python package {package}"
            f"{f' (it was imported with version {version})' if version else ''}, which is not "
            "installed: install it, or name its folder in PYTHONPATH"
        )


def call_factory(factory: str, *, classes: int, image_size: int, **kwargs: Any) -> nn.Module:
    """Build a network; `num_classes` and `image_size` go to a factory that takes them.

    Raises:
        UserError: see `find_factory`; or it raises, or returns no network.
    """
    make = find_factory(factory)
    taken = inspect.signature(make).parameters
    sizes = {"num_classes": classes or None, "image_size": image_size}
    given = {name: size for name, size in sizes.items() if size and name in taken}
    try:
        # The meta device, on which zoo builds before it loads weights, is not every network's.
        with torch.device("cpu"):
            module = make(**given, **kwargs)
    except Exception as error:
        raise UserError(f"{factory} raised {type(error).__name__}: {error}") from None
    if not isinstance(module, nn.Module):
        raise UserError(f"{factory}: expected a torch.nn.Module, got {type(module).__name__}")
    return module


def package_version(factory: str) -> dict[str, str]:
    """Return the `package` that holds a factory and, where it is known, its `version`."""
    module = factory.split(":")[0].split(".")[0]
    if names := importlib.metadata.packages_distributions().get(module):
        return {"package": names[0], "version": importlib.metadata.version(names[0])}
    version = getattr(sys.modules.get(module), "__version__", None)
    return {"package": module} | ({"version": str(version)} if version else {})
