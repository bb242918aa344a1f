"""Stage `register`: every trained variant is in the registry; a receipt says which digests.

It runs at every `dvc repro`: DVC's outputs are the truth, and the registry is filled from them
whenever it lacks one. What is already there is left as it is.
"""

from pathlib import Path

from pipelines.paths import MODELS, RECEIPT, SUBSETS, stage
from zoo.files import write_json
from zoo.registry.register import register_all

if __name__ == "__main__":
    with stage() as params:
        folders = {f"{m}-{s}-{seed}": f"{m}-{s}" for m, s, seed in params.variants}
        registered = register_all([MODELS / key for key in folders], test_folder=SUBSETS / "test")
        for entry in registered:
            if entry.created:
                print(f"registered {entry.name} version {entry.version}")
        receipt = {key: entry.digest for key, entry in zip(folders, registered, strict=True)}
        write_json(Path(RECEIPT), receipt)
