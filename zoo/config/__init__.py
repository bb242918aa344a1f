"""What params.yaml and a comparison's settings hold, each section checked as it is made."""

from zoo.config.comparing import POOLS, CompareConfig, Settings, check_layers, parse_show
from zoo.config.limits import (
    BATCH,
    CLASSES,
    COMPARED_BATCH,
    COMPARED_COUNT,
    COUNT,
    EPOCHS,
    LEARNING_RATE,
    SEED,
    SIDE,
)
from zoo.config.params import (
    STUDY,
    DataConfig,
    GapConfig,
    Params,
    StudyConfig,
    Variant,
    load_params,
    variant_key,
)
from zoo.config.training import ModelConfig, TrainConfig, check_kwargs

__all__ = [
    "BATCH",
    "CLASSES",
    "COMPARED_BATCH",
    "COMPARED_COUNT",
    "COUNT",
    "EPOCHS",
    "LEARNING_RATE",
    "POOLS",
    "SEED",
    "SIDE",
    "STUDY",
    "CompareConfig",
    "DataConfig",
    "GapConfig",
    "ModelConfig",
    "Params",
    "Settings",
    "StudyConfig",
    "TrainConfig",
    "Variant",
    "check_kwargs",
    "check_layers",
    "load_params",
    "parse_show",
    "variant_key",
]
