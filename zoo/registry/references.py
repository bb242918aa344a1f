"""How a model is referred to: parsing alone, with no MLflow and no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zoo.errors import UserError
from zoo.files import user_path
from zoo.models.spec import SPEC, model_digest, read_spec

Kind = Literal["version", "run", "logged", "folder", "timm", "hf"]

NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
ALIAS = r"[A-Za-z0-9_-]+"
LATEST = "latest"  # the newest version, an experiment or not, as everywhere in MLflow
_REGISTERED = re.compile(
    rf"^(?:models:/)?(?P<name>{NAME})(?:/(?P<version>[0-9]+|latest)|@(?P<alias>{ALIAS}))?$"
)
_LOGGED = re.compile(r"^models:/(?P<id>m-[0-9a-f]{32})$")
_RUN = re.compile(r"^runs:/(?P<id>[0-9a-f]{32})(?:/(?P<path>[A-Za-z0-9._-]+))?$")
_TIMM = re.compile(r"^timm:(?P<name>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)?)$")
_HF = re.compile(r"^hf:(?P<name>\S.*)$")
FORMS = (
    "NAME, NAME/3, NAME@alias, runs:/ID/model, models:/NAME/3, timm:NAME, hf:NAME or a folder "
    "(./DIR)"
)


@dataclass(frozen=True)
class Reference:
    """A parsed reference; a name without `version` and `alias` means its current version."""

    text: str
    kind: Kind
    name: str = ""
    version: int | None = None
    alias: str = ""
    id: str = ""
    folder: Path | None = None

    @property
    def is_registered(self) -> bool:
        """Whether it is looked up in a registry, not in a folder or a library."""
        return self.kind not in {"folder", "timm", "hf"}

    @property
    def is_name(self) -> bool:
        """Whether it is the name of a registered model, without a version."""
        return self.kind == "version" and self.version is None and not self.alias


@dataclass(frozen=True)
class Resolved:
    """One model, found but not fetched.

    `label` is its name in reports, `digest` the sha256 over spec and weights, `artifacts` the
    address of its MLflow model. `version`, `run_id` and `model_id` are set if MLflow holds it.
    """

    reference: str
    kind: Kind
    name: str
    label: str
    digest: str = ""
    version: int | None = None
    run_id: str = ""
    model_id: str = ""
    artifacts: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def uri(self) -> str:
        """An exact address, with a version instead of `latest` or an alias."""
        if self.version is not None:
            return f"models:/{self.name}/{self.version}"
        return f"models:/{self.model_id}" if self.model_id else self.reference


def parse(text: str) -> Reference:
    """Parse a reference; raise `UserError` if it has none of the known forms.

    A path must look like one (`./vit`, `models/vit`, `/tmp/vit`): `vit` and `vit/3` mean the
    registry.

    >>> parse("vit-small@best").alias
    'best'
    """
    if match := _TIMM.fullmatch(text):
        return Reference(text, "timm", match["name"])
    if match := _HF.fullmatch(text):
        return Reference(text, "hf", match["name"])
    if match := _LOGGED.fullmatch(text):
        return Reference(text, "logged", id=match["id"])
    if match := _RUN.fullmatch(text):
        return Reference(text, "run", match["path"] or "model", id=match["id"])
    if match := _REGISTERED.fullmatch(text):
        version, alias = match["version"] or "", match["alias"] or ""
        if version == LATEST:
            version, alias = "", LATEST
        # Python refuses to read very long numbers; 99 digits are too many for any version.
        number = int(version[:99]) if version else None
        return Reference(text, "version", match["name"], number, alias)
    # os.path accepts any text; pathlib raises on some.
    folder = user_path(text)
    looks_so = text.startswith(("/", ".", "~")) or "/" in text
    if text and (os.path.isdir(folder) or (looks_so and ":" not in text)):
        return Reference(text, "folder", folder.name, folder=folder)
    raise UserError(f"expected a model as {FORMS}; got {text!r}")


def resolve_folder(reference: Reference) -> Resolved:
    """Describe the model in a folder; raise `UserError` if there is none."""
    folder = reference.folder
    if folder is None or not os.path.isfile(folder / SPEC):
        raise UserError(f"no model in {reference.text}: expected a folder with {SPEC} in it")
    spec = read_spec(folder / SPEC)
    return Resolved(
        reference.text,
        "folder",
        spec.name,
        label=spec.name,
        digest=model_digest(folder),
        folder=folder.resolve(),
    )


def check_name(name: str) -> str:
    """Return a name for a registered model, or raise `UserError` if MLflow does not allow it."""
    if not re.fullmatch(NAME, name):
        raise UserError(f"name {name!r}: expected letters, digits and . _ + - (no / : @ or space)")
    return name


def check_digest(digest: str, where: str) -> str:
    """Return a sha256 of 64 hex digits, or raise `UserError` that says where a wrong one stands.

    Files are named by it, and anyone may have edited the tag or file that it comes from.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise UserError(f"{where}: expected a sha256 of 64 hex digits, got {digest[:80]!r}")
    return digest


def check_alias(alias: str) -> str:
    """Return an alias, or raise `UserError` if MLflow refuses or reserves it."""
    if not re.fullmatch(ALIAS, alias) or alias == LATEST or re.fullmatch(r"[vV]\d+", alias):
        raise UserError(
            f"alias {alias!r}: expected letters, digits, _ and -, neither 'latest' nor like 'v3'"
        )
    return alias
