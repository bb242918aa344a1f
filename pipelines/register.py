"""Stage `register`: every trained variant is in the registry; a receipt says which digests.

It runs at every `dvc repro`: DVC's outputs are the truth, and the registry is filled from them
whenever it lacks one. What is already there is left as it is. Only the study's own run decides
what a name means: what `dvc exp run` tries is registered as an experiment.
"""

import os
from pathlib import Path

from pipelines.paths import COMPARISONS, MODELS, RECEIPT, SUBSETS, stage
from zoo.cli.progress import progress
from zoo.files import write_json
from zoo.registry.compare import restore_comparisons
from zoo.registry.register import register_study
from zoo.registry.store import open_store

if __name__ == "__main__":
    with stage() as params:
        store, experiment = open_store(), os.environ.get("DVC_EXP_NAME", "")
        with progress("register") as on_progress:
            registered = register_study(
                store,
                params,
                MODELS,
                test_folder=SUBSETS / "test",
                experiment=experiment,
                keep=not experiment,
                on_progress=on_progress,
            )
        for entry in registered:
            if entry.created:
                kind = f" (experiment {experiment})" if experiment else ""
                print(f"registered {entry.name} version {entry.version}{kind}")
        for name in restore_comparisons(store, COMPARISONS):
            print(f"logged the comparison {name} again")
        keys = [variant.key for variant in params.variants]
        receipt = {key: entry.digest for key, entry in zip(keys, registered, strict=True)}
        write_json(Path(RECEIPT), receipt)
