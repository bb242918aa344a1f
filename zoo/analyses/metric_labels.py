"""How a report calls the metrics, whose names are keys for machines: words, with their unit."""

from __future__ import annotations

from zoo.measures.table import MEASURES

RADII = {"radius50": "radius of 50 % of the mass", "radius90": "radius of 90 % of the mass"}
OF_THE_DIAGONAL = "share of half the diagonal"
PIXELS = "pixels"

# By analysis, then by what follows the model or pair in a metric's name ("" where nothing does).
LABELS = {
    "accuracy": {
        "": "accuracy",
        "difference": "accuracy of the first minus the second",
        "same_prediction": "share of images with the same prediction",
        "error_consistency": "error consistency (κ: 0 independent, 1 the same)",
    },
    "cka": {
        "batches": "batches that the intervals come from (number)",
        "mean": "mean CKA over all pairs of layers",
        "best_match_mean": "CKA of each layer's best match, mean",
        "permuted_images": "mean CKA with shuffled images (0 expected)",
        "untrained_mean": "mean CKA with the first one untrained (floor)",
        "other_seed_same_layer": "CKA with another seed, same layer, mean (ceiling)",
        "off_diagonal_mean": "mean CKA of different layers, stem and blocks",
        "first_last_quarter": "mean CKA of the first with the last quarter of layers",
    },
    "similarity": {
        f"{measure.name}_{what}": f"{measure.title}: {words}"
        for measure in MEASURES.values()
        for what, words in {
            "best_match_mean": "each layer's best match, mean",
            "permuted_images": "with shuffled images, mean",
            "other_seed_same_layer": "with another seed, same layer, mean (ceiling)",
        }.items()
    },
    "attention-maps": {
        "entropy": "entropy of attention (1: even), mean over layers and heads",
        "entropy_last": "entropy of attention (1: even), last layer",
        "map_correlation": "correlation of the final maps, mean over images",
        "permuted_images": "correlation of the final maps of different images",
    },
    "attention-distance": {
        "lowest_layer_mean": f"mean distance, lowest layer ({PIXELS})",
        "highest_layer_mean": f"mean distance, highest layer ({PIXELS})",
        "low_layers_nearest_head": f"nearest head of the two lowest layers ({PIXELS})",
        "low_layers_spread": f"farthest minus nearest head, two lowest layers ({PIXELS})",
        "local_heads": "local heads (number)",
        "low_layers_local_heads": "local heads in the two lowest layers (number)",
        "uniform": f"distance of even attention ({PIXELS})",
    },
    "local-heads": {
        "spearman": "rank correlation of distance and CKA, mean over layers",
        "local_minus_global": "CKA of the most local minus the most global heads",
        "distance_range": f"distance of the most global minus the most local heads ({PIXELS})",
    },
    "feature-maps": {
        "sparsity_last": "share of zeros in the last block's output",
        "resolution_last": "side of the last block's output (places)",
    },
    "receptive-field": {
        f"{name}_{what}": f"{title}, {words}"
        for name, title in RADII.items()
        for what, words in {
            "first_block": f"first block ({OF_THE_DIAGONAL})",
            "last_block": f"last block ({OF_THE_DIAGONAL})",
            "first_to_last": "first over last block (ratio)",
        }.items()
    },
    "residuals": {
        "mean_ratio": "size of skip over branch, mean over blocks (ratio)",
        "mean_cosine": "cosine of a block's input and output, mean over blocks",
        "cls_ratio_first_half": "skip over branch, class token, first half of blocks (ratio)",
        "cls_ratio_second_half": "skip over branch, class token, second half of blocks (ratio)",
        "patch_ratio_first_half": "skip over branch, patches, first half of blocks (ratio)",
        "patch_ratio_second_half": "skip over branch, patches, second half of blocks (ratio)",
    },
    "ablation": {
        "accuracy_intact": "accuracy of the whole network on these images",
        "worst_drop_without_branch": "largest drop of accuracy without a block's branches",
        "worst_drop_without_skip": "largest drop of accuracy without a block's skips",
    },
    "localisation": {
        "score_last_block": "share of tokens most like their own patch, last block",
        "score_last_but_one_block": "share of tokens most like their own patch, last block but one",
        "chance": "share of tokens most like their own patch, by chance",
    },
    "probes": {
        "chance": "accuracy of the most common class",
        "pixels_accuracy": "probe of raw pixels: accuracy",
        "pixels_few_shot_accuracy": "probe of raw pixels: accuracy, few-shot",
        "best_layer_accuracy": "best probe of any layer: accuracy",
        "middle_accuracy": "probe at half depth: accuracy",
        "untrained_middle_accuracy": "probe at half depth, network untrained: accuracy",
        "last_block_mean_accuracy": "probe of the last block, mean over places: accuracy",
        "untrained_last_block_mean_accuracy": (
            "probe of the last block, mean over places, network untrained: accuracy"
        ),
        "cls_last_accuracy": "probe of the last block's class token: accuracy",
        "single_token_last_mean": "probes of the last block's single tokens: mean accuracy",
    },
    "grad-cam": {
        "deletion_auc": "area under the deletion curve, Grad-CAM (lower is better)",
        "deletion_auc_random": "area under the deletion curve, random order",
        "deletion_auc_rollout": "area under the deletion curve, attention rollout",
    },
}


def metric_label(analysis: str, what: str) -> str | None:
    """Return how people read a metric; None where it has no label.

    >>> metric_label("attention-distance", "uniform")
    'distance of even attention (pixels)'
    >>> metric_label("residuals", "mean_ratio_mlp")
    'size of skip over mlp branch, mean over blocks (ratio)'
    """
    known = LABELS.get(analysis, {})
    kind = what.removeprefix("mean_ratio_")
    if analysis == "residuals" and kind != what:  # a branch is called as the network calls it
        return f"size of skip over {kind} branch, mean over blocks (ratio)"
    return known.get(what)
