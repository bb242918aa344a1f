"""Stage `effect`: how like each layer is to that of the network trained on all data."""

import numpy as np

from pipelines.paths import EFFECT, RECEIPT, stage
from zoo.cli.progress import progress
from zoo.config import Settings, Variant
from zoo.device import parse_device
from zoo.experiments import data_effect
from zoo.experiments.data_effect_report import as_csv, draw
from zoo.figures.saving import save_figure
from zoo.files import read_json, write_json, write_text
from zoo.registry.images import fetch_images
from zoo.registry.lookup import find_by_digest
from zoo.registry.resolve import load_resolved
from zoo.registry.store import open_store

if __name__ == "__main__":
    with stage() as params:
        store, config, receipt = open_store(), params.compare, read_json(RECEIPT)
        curves = []
        for model in params.study.models:
            trained = []
            for subset in params.study.subsets:
                for seed in params.study.seeds:
                    variant = Variant(model, subset, seed)
                    found = find_by_digest(store, variant.name, receipt[variant.key])
                    network = load_resolved(store, found)
                    count = network.spec.subset_count
                    trained.append(data_effect.Trained(model, subset, seed, count, network))
            images = fetch_images(store, trained[0].network.spec.test_digest).images
            images = np.array(images[: config.images])
            with progress(f"effect {model}") as on_progress:
                curves += data_effect.compare_with_full(
                    trained,
                    images,
                    settings=Settings(batch_size=config.batch_size),
                    device=parse_device(""),
                    on_progress=on_progress,
                )
        title = f"Same layers, trained on a part of the data and on all: {len(images)} test images"
        save_figure(draw(curves, title=title), EFFECT, "cka")
        write_text(EFFECT / "cka.csv", as_csv(curves))
        write_json(EFFECT / "metrics.json", data_effect.metrics(curves))
        verdicts = data_effect.verdicts(curves, len(images))
        write_json(EFFECT / "claims.json", [verdict.as_dict() for verdict in verdicts])
        for v in verdicts:
            print(f"{v.claim.id} {', '.join(v.models)}: {v.verdict}; {v.detail}")
        for note in sorted({note for curve in curves for note in curve.notes if note}):
            print(note)
