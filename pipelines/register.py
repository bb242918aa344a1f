"""Stage `register`: every trained variant is in the registry; a receipt says which digests.

It runs at every `dvc repro`: DVC's outputs are the truth, and the registry is filled from them
whenever it lacks one. What is already there is left as it is.
"""

from pathlib import Path

from pipelines.paths import MODELS, RECEIPT, SUBSETS, stage
from zoo.cli.progress import progress
from zoo.files import write_json
from zoo.registry.register import register_all
from zoo.registry.store import open_store

if __name__ == "__main__":
    with stage() as params:
        folders = {f"{m}-{s}-{seed}": f"{m}-{s}" for m, s, seed in params.variants}
        store, registered = open_store(), []
        with progress("register") as on_progress:
            for i, key in enumerate(folders):
                registered += register_all(
                    [MODELS / key], test_folder=SUBSETS / "test", store=store
                )
                on_progress(i + 1, len(folders), "models")
        for entry in registered:
            if entry.created:
                print(f"registered {entry.name} version {entry.version}")
        receipt = {key: entry.digest for key, entry in zip(folders, registered, strict=True)}
        write_json(Path(RECEIPT), receipt)
