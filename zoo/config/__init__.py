"""What params.yaml and a comparison's settings hold, each section checked as it is made."""

from zoo.config.comparing import (
    DEPTHS,
    FEATURES,
    LOGITS,
    POINTS,
    POOLS,
    CompareConfig,
    Settings,
    check_layers,
    parse_show,
)
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
    is_published,
    load_params,
    variant_key,
)
from zoo.config.training import ModelConfig, TrainConfig, check_kwargs
