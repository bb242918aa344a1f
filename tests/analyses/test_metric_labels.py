"""Every metric has words for people."""

import pytest

from zoo.analyses import ANALYSES
from zoo.analyses.engine import compare_models
from zoo.analyses.metric_labels import LABELS, metric_label
from zoo.config import Settings
from zoo.report.viewer_data import split_name


def test_every_metric_of_a_comparison_has_a_label(make_model, digit_images):
    images, labels = (part[:40] for part in digit_images)
    models = [make_model("vit", "v"), make_model("vit-gap", "g"), make_model("test_resnet", "r")]
    names = [model.name for model in models]
    found = compare_models(
        models,
        images,
        labels,
        class_names=models[0].spec.class_names,
        siblings=[(0, make_model("vit", "w", seed=1))],
        settings=Settings(batch_size=20),
    )
    assert set(found.results) == set(ANALYSES)
    for analysis, result in found.results.items():
        shown = {split_name(metric, names)[2] for metric in result.metrics}
        assert shown
        assert [what for what in shown if not metric_label(analysis, what)] == []
        for metric, value in result.metrics.items():
            label = metric_label(analysis, split_name(metric, names)[2])
            assert isinstance(value, int) == label.endswith(("(number)", "(places)")), metric


@pytest.mark.parametrize("analysis", ANALYSES)
def test_labels_of_an_analysis_differ(analysis):
    labels = list(LABELS[analysis].values())
    assert len(set(labels)) == len(labels)
