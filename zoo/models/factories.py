"""Networks that a user's own code builds: `package.module:factory`, called only where trusted.

A spec may come from anyone who can write to the registry. A name in it is looked up and called
only if the user of this machine has said so: by `zoo import`, which trusts the factory with these
arguments in this project, or by `ZOO_TRUST`, which trusts it with any.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import nn

from zoo.errors import NotTrustedError, UserError
from zoo.files import find_root, write_text

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
LIBRARIES = ("timm:", "torchvision:", "hf:")
VARIABLE = "ZOO_TRUST"


def is_factory(arch: str) -> bool:
    """Say whether a name is that of a user's own code, not of a model that a library has."""
    return bool(NAME.fullmatch(arch)) and not arch.startswith(LIBRARIES)


def trusted_file() -> Path:
    """Return the file of the calls that this user trusts, which lies outside any project.

    A project may be a stranger's: what lies in it must not decide which of its code is run.

    Raises:
        UserError: the user has no folder of settings.
    """
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    if not folder.is_absolute():  # else it would be one of the working folder
        raise UserError(
            f"expected an absolute folder for your settings, got {folder}: set HOME (or "
            f"XDG_CONFIG_HOME), or name the code that you trust by {VARIABLE}"
        )
    return folder / "zoo" / "trusted-factories"


def trust(factory: str, kwargs: Mapping[str, Any]) -> None:
    """Allow this project to call a factory with these arguments from now on."""
    path = trusted_file()
    for folder in (path.parent.parent, path.parent):  # nobody else's to write in, whatever umask
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):  # of two imports at once, both are kept
        if not _is_trusted(factory, kwargs):
            before = path.read_text(encoding="utf-8") if path.is_file() else ""
            write_text(path, f"{before}{_call(factory, kwargs)}\n")


def check_trusted(
    factory: str, kwargs: Mapping[str, Any], origin: Mapping[str, str] | None = None
) -> None:
    """Raise `UserError` unless the user trusts this call; imports and runs nothing.

    Args:
        factory: `package.module:name`.
        kwargs: the arguments it is to be called with.
        origin: that of the model's spec; its `version` is named where the package is missing.
    """
    _check_own(factory, factory)
    _check_installed(factory, (origin or {}).get("version"))
    if not _is_trusted(factory, kwargs):
        raise NotTrustedError(
            f"{factory} is code that zoo would have to run, and in this project you have not "
            "trusted it with these arguments: if you trust it with any, set "
            f"{VARIABLE}={factory}; else import the model here (zoo import)"
        )


def _is_trusted(factory: str, kwargs: Mapping[str, Any]) -> bool:
    if factory in map(str.strip, os.environ.get(VARIABLE, "").split(",")):
        return True
    path = trusted_file()
    return (
        path.is_file() and _call(factory, kwargs) in path.read_text(encoding="utf-8").splitlines()
    )


def _call(factory: str, kwargs: Mapping[str, Any]) -> str:
    """Return a line for a call; another project may have other code by the same name."""
    call = {"factory": factory, "kwargs": kwargs, "project": str(find_root().resolve())}
    return json.dumps(call, sort_keys=True)


def import_factory(factory: str) -> Callable[..., Any]:
    """Import a factory that the user has asked for; its module is executed.

    Raises:
        UserError: its package is missing, importing it fails, or it is not the user's own.
    """
    _check_own(factory, factory)
    _check_installed(factory)
    if str(find_root()) not in sys.path:
        sys.path.append(str(find_root()))
    module, _, name = factory.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        # A user's module may raise anything while it is imported.
        raise UserError(f"cannot import {factory}: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise UserError(f"{factory}: expected a function or class, got {type(found).__name__}")
    real = found
    while isinstance(real, functools.partial):
        real = real.func
    _check_own(factory, getattr(real, "__module__", None) or "builtins")
    return found


def _check_own(factory: str, module: str) -> None:
    """Refuse what belongs to Python itself, also under a name that another module gives it."""
    package = re.split("[.:]", module)[0]
    if package in sys.stdlib_module_names:
        raise UserError(
            f"{factory} is of Python's standard library ({package}), which is never called: "
            "expected a function or class of your own that makes a torch.nn.Module"
        )


def _check_installed(factory: str, version: str | None = None) -> None:
    """Raise `UserError` where a factory's package is not here; runs nothing of it."""
    package = factory.split(":")[0].split(".")[0]
    try:
        # The project's folder is not on the path yet: nothing in it may be imported untrusted.
        found = importlib.util.find_spec(package) or importlib.machinery.PathFinder.find_spec(
            package, [str(find_root())]
        )
    except ValueError:  # a module that no file stands for, such as __main__
        found = None
    if found is None:
        raise UserError(
            f"{factory} needs the Python package {package}"
            f"{f' (it was imported with version {version})' if version else ''}, which is not "
            "installed: install it, or name its folder in PYTHONPATH"
        )


def call_factory(
    factory: str, kwargs: Mapping[str, Any], *, classes: int, image_size: int
) -> nn.Module:
    """Build a network; `num_classes` and `image_size` go to a factory that takes them.

    Raises:
        UserError: see `import_factory`; or it raises, or returns no network.
    """
    make = import_factory(factory)
    sizes = {"num_classes": classes or None, "image_size": image_size}
    try:
        taken = inspect.signature(make).parameters
        given = {name: size for name, size in sizes.items() if size and name in taken}
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
