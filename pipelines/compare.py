"""Stage `compare`: the groups of models that params.yaml lists, each a folder and an MLflow run."""

import shutil

from pipelines.paths import COMPARISONS, RECEIPT, stage
from zoo.cli.progress import progress
from zoo.config import Settings
from zoo.files import read_json, replacing_folder
from zoo.registry.compare import compare_registered
from zoo.registry.resolve import find_by_digest
from zoo.registry.store import open_store

if __name__ == "__main__":
    with stage() as params, replacing_folder(COMPARISONS) as new:
        store, config, receipt = open_store(), params.compare, read_json(RECEIPT)
        seed = params.study.seeds[0]
        for names in config.pairs:
            label = "__".join(names)
            # By digest, not by latest version: the registry may hold newer models of a name.
            references = [find_by_digest(store, n, receipt[f"{n}-{seed}"]) for n in names]
            with progress(f"compare {label}", "images") as on_progress:
                done = compare_registered(
                    store,
                    references,
                    store.root / "reports" / label,
                    count=config.images,
                    only=config.only,
                    skip=config.skip,
                    settings=Settings(batch_size=config.batch_size, layers=config.layers),
                    command="dvc repro compare",
                    on_progress=on_progress,
                )
            shutil.copytree(done.folder, new / label)
            print(f"{label}: {'found' if done.found else 'compared'}: {done.report['summary']}")
