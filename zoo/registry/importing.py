"""Models from elsewhere into the registry, as versions like any other."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.registry.references import check_name
from zoo.registry.register import Registered, register
from zoo.registry.store import Store

if TYPE_CHECKING:
    from zoo.models.imported import ImportOptions


def import_registered(
    store: Store, source: str, name: str, given: ImportOptions
) -> tuple[Registered, tuple[str, ...]]:
    """Import a model and register it, unless the same one is registered under that name.

    A factory of the user's own that made it is trusted from then on, in this project and with these
    arguments, since this user has asked for it.

    Returns:
        The version, and what was assumed.

    Raises:
        UserError: see `zoo.models.imported.import_model` and `register`.
    """
    from zoo.models.factories import is_factory, trust
    from zoo.models.files import save_model
    from zoo.models.imported import import_model

    check_name(name)
    imported = import_model(source, name, given)
    if is_factory(source):
        trust(source, imported.spec.kwargs)
    with tempfile.TemporaryDirectory(prefix="zoo-") as temporary:
        folder = Path(temporary) / name
        save_model(folder, imported.module, imported.spec)
        return register(store, folder), imported.notes
