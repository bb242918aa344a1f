"""Stage `train`: one variant (model, subset, seed) is trained; live to MLflow where it is up."""

import os
import sys
from typing import Any

from pipelines.paths import MODELS, SUBSETS, TRAIN_METRICS, stage
from zoo.cli.progress import progress
from zoo.config import Variant
from zoo.errors import UserError
from zoo.files import find_root, write_json
from zoo.models.spec import model_digest
from zoo.processes import joined, process_index
from zoo.registry import load
from zoo.registry.experiments import note_experiment
from zoo.registry.tracking import TrackingCallback
from zoo.training.variants import train_variant

CHECKPOINTS = find_root() / ".zoo" / "checkpoints"  # one for experiments in copies, too


def asked_for(arguments: list[str]) -> Variant:
    """Return the variant that the command line names."""
    if len(arguments) != 3 or not arguments[2].isdecimal():
        raise UserError(
            "expected python -m pipelines.train MODEL SUBSET SEED, for example vit small 0; "
            f"got {' '.join(arguments) or 'nothing'}"
        )
    model, subset, seed = arguments
    return Variant(model, subset, int(seed))


if __name__ == "__main__":

    def callbacks(inputs: str, settings: dict[str, Any]) -> list[TrackingCallback]:
        """Log the run live, under the digest by which `register` finds it again."""
        return [TrackingCallback(variant.key, inputs, settings)]

    with stage() as params, joined():
        variant = asked_for(sys.argv[1:])
        with progress(f"train {variant.key}") as on_progress:
            metrics = train_variant(
                params,
                variant,
                subsets=SUBSETS,
                folder=MODELS / variant.key,
                checkpoints=CHECKPOINTS,
                load=load,
                callbacks=callbacks,
                on_progress=on_progress,
            )
        if process_index() == 0:
            experiment = os.environ.get("DVC_EXP_NAME", "")
            note_experiment(find_root(), model_digest(MODELS / variant.key), experiment)
            write_json(TRAIN_METRICS / f"{variant.key}.json", metrics)
            print(f"{variant.key}: test accuracy {metrics['test']['accuracy']:.3f}")
