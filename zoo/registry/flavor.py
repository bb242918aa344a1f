"""A zoo model as an MLflow model: weights in safetensors, a spec in JSON, nothing pickled."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

import zoo
from zoo.errors import UserError, brief
from zoo.files import write_json
from zoo.models.spec import SPEC, WEIGHTS, ModelSpec
from zoo.registry.zoo_pyfunc import SOURCE

FLAVOR, MODEL_FILES, CODE = "zoo", "data", "code"
LOADER = "zoo_pyfunc"
# Models that were registered before loaders came with them name the second; they stay whole.
LOADERS = (LOADER, "zoo.registry.serving")
NEEDED = ("mlflow", "numpy", "pillow", "pyyaml", "safetensors", "timm", "torch", "torchvision")
# All of zoo that loading and predicting import; each model brings a copy.
SERVED = (
    *("__init__.py", "config/*.py", "errors.py", "files/__init__.py", "models/*.py"),
    *("registry/__init__.py", "registry/serving.py"),
)


def write_flavor(
    folder: Path,
    target: Path,
    spec: ModelSpec,
    digest: str,
    *,
    example: NDArray[np.uint8] | None = None,
    **identity: Any,
) -> None:
    """Write a folder of weights and spec as an MLflow model into an empty folder.

    `example` holds images (n, height, width, 3) to show the input; `identity` are fields of
    `mlflow.models.Model` that say where the model is kept.
    """
    (target / MODEL_FILES).mkdir(parents=True)
    for name in (SPEC, WEIGHTS):
        shutil.copyfile(folder / name, target / MODEL_FILES / name)
    model = Model(signature=signature(spec), **identity)
    model.add_flavor(
        "python_function",
        loader_module=LOADER,
        data=MODEL_FILES,
        code=CODE,
        python_version=platform.python_version(),
        env={"virtualenv": "python_env.yaml"},
    )
    model.add_flavor(
        FLAVOR, digest=digest, version=zoo.__version__, data=MODEL_FILES, arch=spec.arch
    )
    if example is not None:
        _save_example(model, example, str(target))
    _write_code(target / CODE)
    _write_environment(target, spec)
    model.save(str(target / "MLmodel"))


def signature(spec: ModelSpec) -> ModelSignature:
    """Return the input (uint8 images of any size) and the output (float32 probabilities)."""
    images = TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))
    probabilities = TensorSpec(np.dtype(np.float32), (-1, len(spec.class_names)))
    return ModelSignature(Schema([images]), Schema([probabilities]))


def _write_code(folder: Path) -> None:
    """Copy the loader, and below it the part of zoo that it uses if zoo is not installed."""
    package = Path(zoo.__file__).parent
    folder.mkdir()
    shutil.copyfile(package / "registry" / f"{LOADER}.py", folder / f"{LOADER}.py")
    for pattern in SERVED:
        for path in package.glob(pattern):
            copy = folder / SOURCE / path.relative_to(package.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _write_environment(target: Path, spec: ModelSpec) -> None:
    pinned, package = [], spec.origin.get("package")
    for name in (*NEEDED, package) if package else NEEDED:
        try:
            version = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
        pinned.append(f"{name}=={version}\n")
    (target / "requirements.txt").write_text("".join(pinned), encoding="utf-8")
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    # JSON is YAML too.
    write_json(target / "python_env.yaml", environment)


def check_flavor(path: Path, spec: ModelSpec, digest: str) -> None:
    """Raise `UserError` unless an MLmodel file describes a model as `write_flavor` does."""
    try:
        model = Model.load(str(path))
        ours, served = model.flavors[FLAVOR], model.flavors["python_function"]
        said = ours["digest"], ours["data"], ours["arch"], served["data"], model.signature
        is_whole = said == (digest, MODEL_FILES, spec.arch, MODEL_FILES, signature(spec))
        is_whole &= served["loader_module"] in LOADERS
    except Exception as error:  # MLflow may raise anything on a damaged file
        raise UserError(f"MLmodel is damaged ({brief(error)})") from None
    if not is_whole:
        raise UserError("MLmodel is damaged: it describes another model")


def read_flavors(path: Path) -> dict[str, dict[str, Any]]:
    """Return each flavor in an MLmodel file; empty if the file cannot be read."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    flavors = content.get("flavors") if isinstance(content, dict) else None
    if not isinstance(flavors, dict):
        return {}
    return {str(k): v for k, v in flavors.items() if isinstance(v, dict)}
