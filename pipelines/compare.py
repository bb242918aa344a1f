"""Stage `compare`: the groups of models that params.yaml lists, each a folder and an MLflow run."""

import shutil
from collections.abc import Mapping, Sequence

from pipelines.paths import COMPARISONS, RECEIPT, stage
from zoo.cli.progress import progress
from zoo.comparison import FOLDER, PARTS
from zoo.config import Settings, is_published, variant_key
from zoo.errors import UserError
from zoo.figures.names import short_name
from zoo.files import read_json
from zoo.files.folders import FolderKind, replacing_folder
from zoo.registry.compare import compare_registered
from zoo.registry.lookup import find_by_digest
from zoo.registry.references import Resolved
from zoo.registry.resolve import resolve
from zoo.registry.store import Store, open_store


def find_model(store: Store, receipt: Mapping[str, str], name: str, seed: int) -> Resolved:
    """Find published weights, or a variant by its digest: the registry may hold newer models."""
    if is_published(name):
        return resolve(store, name)
    key = variant_key(name, seed)
    if key not in receipt:
        raise UserError(f"{RECEIPT} has no {key}: run dvc repro register")
    return find_by_digest(store, name, receipt[key])


def find_siblings(
    store: Store, receipt: Mapping[str, str], names: Sequence[str], seeds: Sequence[int]
) -> list[tuple[int, Resolved]]:
    """Find each model's other seeds of the study, whatever else is registered."""
    own = [(i, name) for i, name in enumerate(names) if not is_published(name)]
    return [(i, find_model(store, receipt, name, seed)) for i, name in own for seed in seeds[1:]]


if __name__ == "__main__":
    with stage() as params, replacing_folder(COMPARISONS, FolderKind(folders={"*": FOLDER})) as new:
        store, config, receipt = open_store(), params.compare, read_json(RECEIPT)
        seeds = params.study.seeds
        for names in config.pairs:
            label = short_name("__".join(names).replace(":", "-"))
            models = [find_model(store, receipt, name, seeds[0]) for name in names]
            with progress(f"compare {label}", PARTS) as on_progress:
                done = compare_registered(
                    store,
                    models,
                    store.cache / "comparisons" / label,  # `reports` is the command line's
                    count=config.images,
                    only=config.only,
                    skip=config.skip,
                    settings=Settings(batch_size=config.batch_size, layers=config.layers),
                    siblings=find_siblings(store, receipt, names, seeds),
                    command="dvc repro compare",
                    on_progress=on_progress,
                )
            shutil.copytree(done.folder, new / label)
            print(f"{label}: {'found' if done.found else 'compared'}: {done.report['summary']}")
