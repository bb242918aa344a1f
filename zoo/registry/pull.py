"""A model out of the registry: a folder that needs neither MLflow nor a network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UserError
from zoo.files import write_text
from zoo.files.folders import FolderKind, check_replaceable, replacing_folder
from zoo.models.spec import SPEC, SPEC_KEYS, WEIGHTS, read_spec
from zoo.registry.card import CARD, model_card
from zoo.registry.references import Resolved
from zoo.registry.resolve import fetch_model, load_resolved

if TYPE_CHECKING:
    from zoo.registry.store import Store

PULLED = FolderKind(SPEC, SPEC_KEYS, files=(WEIGHTS, CARD))


def pull(model: Resolved, folder: Path, *, store: Store | None = None) -> None:
    """Write a model's weights, its spec and its card into a folder that `zoo.load` takes.

    The folder is absent, empty, or one of a pulled model and nothing else, which is replaced.

    Raises:
        UserError: `folder` holds something else, or the model is damaged or cannot be fetched.
    """
    own = os.path.realpath(folder)
    if model.folder is None or os.path.realpath(model.folder) != own:
        check_replaceable(folder, PULLED)  # before anything is fetched
    source = fetch_model(store, model)
    if model.kind == "folder":
        # What is registered was loaded when it was; of a folder nobody knows.
        load_resolved(store, model)
    if os.path.realpath(source) == own:
        raise UserError(f"{model.reference} lies in {folder} already; name another folder")
    with replacing_folder(folder, PULLED) as new:
        for name in (SPEC, WEIGHTS):
            shutil.copyfile(source / name, new / name)
        write_text(new / CARD, model_card(read_spec(new / SPEC), model.digest))
