"""Vision networks of Hugging Face's transformers, an optional package: classifiers and towers.

A network is built from its configuration by classes of transformers' own; code that a repository
brings is never run, and weights are read as tensors alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from zoo.errors import UserError, brief
from zoo.files import sha256
from zoo.models.build import count_parameters
from zoo.models.files import LoadedModel
from zoo.models.pretrained import HUB, numbered, only_tensors
from zoo.models.spec import ModelSpec
from zoo.models.vision_network import VisionNetwork, transformers_package

LIBRARY = "hf:"
PILLOWS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
# What a configuration says of a file rather than of the network; classes follow from the spec.
NOT_OF_A_NETWORK = {
    "architectures", "auto_map", "dtype", "id2label", "label2id", "num_labels", "torch_dtype",
    "transformers_version", "_name_or_path",
}  # fmt: skip
UNNAMED = re.compile(r"LABEL_\d+")
CROPPED_BELOW = 384  # pixels: larger ones, ConvNeXt's processor squeezes instead


def create_hf(name: str, *, no_head: bool = False) -> tuple[VisionNetwork, dict[str, Any]]:
    """Load a network of the hub's or of a folder, with what makes it again.

    Of a model that sees and reads, such as CLIP, the vision tower is taken.

    Args:
        name: `OWNER/NAME` on the hub, or a folder that transformers saved.
        no_head: without its classifier.

    Returns:
        The network in eval mode, and `arch`, `kwargs` and `class_names` of its spec.

    Raises:
        UserError: transformers is not installed; no such model, no vision network, or its weights
            are not all there.
    """
    transformers = transformers_package()
    with _said_in_one_line(name):
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        classifies = not no_head and any(
            "ForImageClassification" in made for made in config.architectures or ()
        )
        if not classifies:
            config = getattr(config, "vision_config", None) or config
        auto = (
            transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
        )
        kwargs: dict[str, Any] = {}
        module, lost = _load(auto, name, config, kwargs)
        if lost and all(key.startswith("pooler.") for key in lost):
            # A pooling layer that was not trained with this network: left out, not made up.
            kwargs = {"add_pooling_layer": False}
            module, lost = _load(auto, name, config, kwargs)
    if module.main_input_name != "pixel_values":
        raise UserError(f"hf:{name}: expected a vision network, got {type(module).__name__}")
    if lost:
        raise UserError(
            f"hf:{name} lacks {len(lost)} of the weights of {type(module).__name__}, such as "
            f"{lost[0]}: expected a trained network"
        )
    own = {k: v for k, v in config.to_diff_dict().items() if k not in NOT_OF_A_NETWORK}
    names = [str(label) for _, label in sorted(config.id2label.items())] if classifies else []
    if all(UNNAMED.fullmatch(label) for label in names):
        names = numbered(len(names))
    known = {
        "arch": f"{LIBRARY}{type(module).__name__}",
        "kwargs": {"config": own, **kwargs},
        "class_names": names,
    }
    return VisionNetwork(module).eval(), known


def hf_preprocessing(name: str) -> tuple[dict[str, Any], list[str]]:
    """Return how a model's processor makes its input, as fields of a spec, and notes.

    Raises:
        UserError: its sizes are not those of a square.
    """
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        with _quiet():
            said, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except Exception:  # of the hub's client, or of JSON
        return {}, ["no preprocessor_config.json: --image-size, --mean and --std say how it sees"]
    size, crop = said.get("size"), said.get("crop_size")
    resized = _side(name, size)
    cropped = _side(name, crop) if crop and said.get("do_center_crop") else None
    fraction, side = (cropped / resized, cropped) if cropped else (1.0, resized)
    if said.get("crop_pct") and resized < CROPPED_BELOW:
        fraction = said["crop_pct"]
    squeezes = isinstance(size, Mapping) and "height" in size and not cropped
    notes = ["its processor squeezes images that are not square; zoo takes their centre"]
    scaled = said.get("do_normalize", True)
    return {
        "image_size": side,
        "crop_fraction": min(1.0, fraction),
        "interpolation": PILLOWS.get(said.get("resample"), "bicubic"),
        "mean": list(said["image_mean"]) if scaled else [0.0] * 3,
        "std": list(said["image_std"]) if scaled else [1.0] * 3,
    }, notes if squeezes else []


def hf_origin(name: str) -> dict[str, str]:
    """Return where a network is from, and the package that builds it."""
    package = {"package": "transformers", "version": str(transformers_package().__version__)}
    if Path(name).is_dir():
        return {"source": f"{LIBRARY}{Path(name).name}"} | package
    return {"source": f"{LIBRARY}{name}", "url": f"{HUB}{name}"} | package


def load_hf(name: str) -> LoadedModel:
    """Load a network with its own preprocessing, as a reference `hf:NAME` asks for.

    Raises:
        UserError: see `create_hf`; or its processor does not say what it sees.
    """
    module, known = create_hf(name)
    seen, notes = hf_preprocessing(name)
    if not seen:
        raise UserError(f"hf:{name}: {notes[0]}: import it (zoo import hf:{name})")
    label = Path(name).name
    spec = ModelSpec(
        name=label, parameters=count_parameters(module), origin=hf_origin(name), **known, **seen
    )
    return LoadedModel(label, module, spec, digest=hf_identity(name), uri=f"{LIBRARY}{name}")


def hf_identity(name: str) -> str:
    """Return what stands for the digest: of a folder its files', else name and version."""
    if Path(name).is_dir():
        kept = [
            p for p in sorted(Path(name).iterdir()) if p.suffix in (".json", ".safetensors", ".bin")
        ]
        return sha256(*kept)
    return f"transformers-{transformers_package().__version__}:{name}"


def _load(auto: Any, name: str, config: Any, kwargs: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return a network and the names of its weights that the files lack."""
    with only_tensors():
        module, info = auto.from_pretrained(
            name,
            config=config,
            output_loading_info=True,
            dtype=torch.float32,
            trust_remote_code=False,
            **kwargs,
        )
    return module, sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"])))


def _side(name: str, size: Any) -> int:
    sides = set(size.values()) if isinstance(size, Mapping) else {size}
    if len(sides) != 1 or type(side := next(iter(sides))) is not int:
        raise UserError(f"hf:{name}: expected square images, its processor has the size {size}")
    return side


@contextmanager
def _said_in_one_line(name: str) -> Iterator[None]:
    """Turn whatever transformers or the hub's client raise into one line."""
    try:
        with _quiet():
            yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"hf:{name}: expected a folder that transformers saved, or a model of the hub's, in "
            f"its cache or to be downloaded ({brief(error)})"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting every weight, and its bars, for a while."""
    from transformers.utils import logging as theirs

    before, shown = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        yield
    finally:
        theirs.set_verbosity(before)
        if shown:
            theirs.enable_progress_bar()
