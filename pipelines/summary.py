"""Stage `summary`: accuracy against the size of the subset, and how it grew in training."""

import pandas as pd

from pipelines.paths import MODELS, SUBSETS, SUMMARY, TRAIN_METRICS, stage
from zoo.experiments import data_scale, learning
from zoo.figures.saving import save_figure
from zoo.files import csv_text, read_json, write_json, write_text

if __name__ == "__main__":
    with stage() as params:
        sizes = {
            name: read_json(SUBSETS / name / "subset.json")["count"]
            for name in [*params.study.subsets, "test"]
        }
        trials, curves = [], []
        for variant in params.variants:
            model, subset, seed = variant
            metrics = read_json(TRAIN_METRICS / f"{variant.key}.json")
            trials.append(
                {
                    "model": model,
                    "subset": subset,
                    "seed": seed,
                    "images": sizes[subset],
                    "accuracy": metrics["test"]["accuracy"],
                    **{key: metrics[key] for key in ("parameters", "images_seen", "seconds")},
                }
            )
            epochs = MODELS / variant.key / "epochs.csv"
            curves.append(learning.read_learning(model, subset, epochs))
        points = data_scale.over_seeds(pd.DataFrame(trials))
        title = f"{params.data.source}: accuracy on {sizes['test']} test images"
        save_figure(data_scale.draw(points, title=title), SUMMARY, "accuracy")
        title = f"{params.data.source}: accuracy on the validation images while training"
        save_figure(learning.draw(curves, title=title), SUMMARY, "learning")
        write_text(SUMMARY / "accuracy.csv", csv_text(trials))
        write_text(SUMMARY / "accuracy.md", data_scale.as_markdown(points, sizes["test"]))
        by_model = {
            model: {p.subset: round(p.accuracy, 4) for p in own.itertuples()}
            for model, own in points.groupby("model", sort=False)
        }
        gap = {
            subset: round(difference, 4)
            for subset, difference in data_scale.gaps(points, "resnet18", "vit").items()
        }
        write_json(SUMMARY / "metrics.json", {"accuracy": by_model, "gap_resnet18_vit": gap})
        print((SUMMARY / "accuracy.md").read_text(encoding="utf-8"))
