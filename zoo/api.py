"""What a notebook uses: load, wrap and compare, as `zoo.load`, `zoo.wrap`, `zoo.compare`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from zoo.analyses import choose_analyses
from zoo.analyses.engine import analyse
from zoo.comparison import Comparison
from zoo.config import Settings
from zoo.config.mapping import from_mapping
from zoo.data.sources import Split
from zoo.data.subsets import content_digest
from zoo.data.trained_on import SUBSETS, shared_with_training
from zoo.device import parse_device
from zoo.errors import UserError, unknown
from zoo.files import find_root
from zoo.models.build import network_errors
from zoo.models.consistency import own_buffers
from zoo.models.files import LoadedModel, describe_module, digest_in_memory
from zoo.models.modes import on_own_devices
from zoo.models.spec import ModelSpec
from zoo.models.untrained import shapes
from zoo.models.wrapped import Sealed, network_inside, weights_digest
from zoo.progress import OnProgress, no_progress
from zoo.study.identity import comparison_digest, provenance
from zoo.study.prepare import prepare_study

PIXELS = "(n, height, width, 3) uint8"
FIELDS = {field.name for field in dataclasses.fields(ModelSpec)} - {"name", "image_size"}


def load(reference: str) -> LoadedModel:
    """Load a model: a registered name (`vit-small`, `vit-small/3`, `vit-small@best`) or a folder.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    if not isinstance(reference, str):
        raise UserError(
            f"expected a model's name or folder as text, got {type(reference).__name__} "
            f"{str(reference)[:80]!r}"
        )
    from zoo.registry import load as load_reference

    return load_reference(reference)


def wrap(
    module: nn.Module,
    *,
    name: str = "",
    image_size: int,
    untrained: nn.Module | Callable[[], nn.Module] | None = None,
    seeds: Sequence[nn.Module | LoadedModel] = (),
    **known: Any,
) -> LoadedModel:
    """Make your own network comparable.

    Args:
        module: maps float images (n, 3, image_size, image_size) to logits (n, classes), or to
            features. A compiled or data-parallel module is unwrapped; for a scripted one only the
            output is available.
        name: its name in reports; by default the name of its class.
        image_size: the side of its input, in pixels; other images are resized to it.
        untrained: what makes the same network without training, such as its class, so that results
            say what training brought: it is called once for `module` and once for each of `seeds`,
            each time after torch was seeded. Or such a network, as a copy from before training.
        seeds: the same network trained from other seeds, so that numbers have an interval over
            trainings. Where `untrained` is one network, wrap each of them with its own.
        known: other fields of `zoo.models.spec.ModelSpec`: `class_names`; `mean` and `std` per
            channel, for pixels scaled to 0..1, without which they are only scaled; what it was
            trained on, as `subset_count` images, with the same text as `subset_digest` for
            networks trained on the same ones, so that claims about these are tested.

    Raises:
        UserError: `module` is not a network, `untrained` or one of `seeds` is not the same network,
            not all of them have an `untrained`, or a field is unknown or does not fit.
    """
    module = _network(module, "expected a network to wrap")
    if strange := sorted(known.keys() - FIELDS):
        raise unknown("argument of zoo.wrap:", strange[0], FIELDS)
    kind = type(module.network if isinstance(module, Sealed) else module).__name__
    defaults = vars(describe_module(module, name=kind, image_size=1).spec)
    given = {"image_size": image_size, **known} | ({"name": name} if name else {})
    spec = from_mapping(ModelSpec, defaults | _plain(given), "zoo.wrap")
    if not isinstance(seeds, list | tuple):
        raise UserError(
            f"seeds of {spec.name}: expected a list of networks, got {type(seeds).__name__}"
        )
    first = _with_start(LoadedModel(spec.name, module, spec), untrained)
    others = tuple(_seed(first, other, i, untrained) for i, other in enumerate(seeds, 1))
    if len({other.untrained is None for other in (first, *others)}) > 1:
        raise UserError(
            f"untrained of {spec.name}: expected one for each seed, or none: give what makes the "
            "network, such as its class"
        )
    return dataclasses.replace(first, seeds=others)


def _network(given: object, expected: str) -> nn.Module:
    """Return the network inside what was given, or say what was expected."""
    if not isinstance(given, nn.Module):
        raise UserError(
            f"{expected}, got {type(given).__name__}: give a torch.nn.Module; "
            "zoo.load takes names and folders"
        )
    return network_inside(given)


def _same(module: nn.Module, given: object, argument: str, name: str) -> nn.Module:
    """Return a network that has to be like another one in all but the values of its weights."""
    other = _network(given, f"{argument} of {name}: expected a network")
    if other is module:
        raise UserError(f"{argument} of {name}: expected another network, got {name} itself")
    mine, its = shapes(module.state_dict()), shapes(other.state_dict())
    if differ := sorted({key for key, _ in mine.items() ^ its.items()}):
        raise UserError(
            f"{argument} of {name}: expected the same network with other weights, got one that "
            f"differs in {differ[0]!r}"
        )
    return other


def _with_start(model: LoadedModel, untrained: object) -> LoadedModel:
    """Return a model with the same network before training, made where `untrained` makes it."""
    if untrained is None:
        return model
    if callable(untrained) and not isinstance(untrained, nn.Module):
        with network_errors(f"untrained of {model.name} cannot be made"), torch.random.fork_rng():
            torch.manual_seed(model.spec.seed)
            untrained = untrained()
    before = _same(model.module, untrained, "untrained", model.name)
    return dataclasses.replace(model, untrained=before)


def _seed(
    first: LoadedModel, given: nn.Module | LoadedModel, i: int, untrained: object
) -> LoadedModel:
    """Return a network of another seed, which counts on from that of the first."""
    spec = dataclasses.replace(first.spec, seed=first.spec.seed + i)
    model = given if isinstance(given, LoadedModel) else LoadedModel(first.name, given, spec)
    other = _same(first.module, model.module, "seeds", first.name)
    model = dataclasses.replace(model, name=first.name, module=other, spec=spec, seeds=())
    makes = model.untrained is None and not isinstance(untrained, nn.Module)
    return _with_start(model, untrained) if makes else model


def compare(
    models: Sequence[LoadedModel | str],
    images: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    class_names: Sequence[str] = (),
    images_name: str = "",
    data: Sequence[ArrayLike] = (),
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    settings: Settings | None = None,
    device: str | torch.device = "cpu",
    on_progress: OnProgress = no_progress,
) -> Comparison:
    """Compare models on images; needs no MLflow unless a model is given by its registered name.

    Args:
        models: one or more; `wrap` makes one of any `nn.Module`.
        images: (n, height, width, 3) uint8; resized and normalised for each model.
        labels: (n,) class indices, if known.
        class_names: names of the classes, in the order of the labels; by default those of the
            models. Where models name different ones, these have to be given.
        images_name: what the report calls the images, such as `"the test split of CIFAR-10"`; by
            default it only counts them.
        data: further sets of images like `images`, on which the similarity of layers is measured
            as well, with the agreement of the maps (`result["cka"]["cka_other"]`, along
            `image_set`).
        only: analyses to run, instead of all; a string is one name.
        skip: analyses to leave out, in the same form.
        settings: batch size, layers, pooling and so on.
        device: where the networks run, such as `"cuda"`; by default the CPU. Afterwards, even after
            an error, each network is back on its device and in its mode.
        on_progress: called with (done, total, what is counted): images, then analyses.

    Returns:
        The comparison: `result["cka"]` holds the labelled variables of an analysis,
        `result.to_frame()` every scalar, `result.plot("cka")` its figures, `result.verdicts` the
        claims; `result.save(folder)` saves everything. In a notebook it displays its report.

    Raises:
        UserError: an argument has the wrong type, models share a name or do not have one output
            per class, images have the wrong form, an analysis or layer is unknown, or the device
            is not available.
    """
    only, skip = ([names] if isinstance(names, str) else names for names in (only, skip))
    names = {"class_names": class_names, "images_name": images_name, "only": only, "skip": skip}
    asked = from_mapping(_Names, _plain(names), "zoo.compare")
    if not isinstance(settings, Settings | None):
        raise UserError(f"settings: expected zoo.config.Settings, got {type(settings).__name__}")
    if not (on_progress is None or callable(on_progress)):
        raise UserError(f"on_progress: expected a function, got {type(on_progress).__name__}")
    settings, device = settings or Settings(), parse_device(str(device))
    loaded = _loaded(models)
    pixels = _array("images", images, PIXELS)
    others = {f"images {i}": _array(f"images {i}", of, PIXELS) for i, of in enumerate(data, 2)}
    known, classes = _labels(labels, asked.class_names, loaded)
    chosen = choose_analyses(asked.only, asked.skip)
    siblings = [(i, seed) for i, model in enumerate(loaded) for seed in model.seeds]
    taking_part = [*loaded, *(seed for _, seed in siblings)]
    before = [model.untrained for model in taking_part if model.untrained is not None]
    modules = [*before, *(model.module for model in taking_part)]
    with on_own_devices(modules), own_buffers(modules):
        study = prepare_study(loaded, pixels, known, classes, siblings, settings, device)
        results = analyse(study, chosen, on_progress, others=others)
    seen = _digest(pixels, known, classes)
    digests = {name: _digest(of) for name, of in others.items()}
    digest = comparison_digest(
        [(model.name, model.digest or digest_in_memory(model)) for model in loaded],
        "+".join([seen, *digests.values()]),
        chosen,
        settings,
        [
            *(seed.digest or digest_in_memory(seed) for _, seed in siblings),
            *(weights_digest(module.state_dict()) for module in before),
        ],
        device=device,
    )
    origin = provenance(loaded, study, digest=digest, images_digest=seen, source=asked.images_name)
    origin["other_images"] = [
        {"name": name, "count": len(others[name]), "digest": of, "source": ""}
        for name, of in digests.items()
    ]
    given = Split(np.zeros(len(pixels), np.int64), lambda i: pixels[i])
    trained_on = {model.name: model.spec.subset_digest for model in loaded}
    origin["trained_on"] = shared_with_training(given, trained_on, find_root() / SUBSETS)
    return Comparison(dataclasses.replace(results, provenance=origin))


@dataclass(frozen=True)
class _Names:
    """The arguments of `compare` that are names."""

    class_names: list[str]
    images_name: str
    only: list[str]
    skip: list[str]


def _plain(value: Any) -> Any:
    """Return NumPy's and torch's values as Python's own, and what holds several as a list."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(inner) for inner in value]
    return value


def _array(argument: str, given: ArrayLike, form: str) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        # Lists of other lengths inside one, or a tensor that is not on the CPU.
        kind = type(given).__name__
        raise UserError(f"{argument}: expected {form}, got {kind}: {error}") from None


def _labels(
    labels: ArrayLike | None, names: Sequence[str], models: Sequence[LoadedModel]
) -> tuple[NDArray[np.int64] | None, Sequence[str]]:
    """Return class indices and the names of classes: those given, the models', or numbers."""
    named = {tuple(m.spec.class_names): m.name for m in models if m.spec.class_names}
    if labels is None:
        return None, names or list(next(iter(named), ()))
    if len(named) > 1 and not names:
        (first, a), (second, b), *_ = named.items()
        raise UserError(
            f"labels: {a} and {b} name different classes ({_said(first)}; {_said(second)}); "
            "say which the labels count: class_names=[...]"
        )
    names = names or list(next(iter(named), ()))
    given = _array("labels", labels, "(n,) class indices")
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise UserError(
            f"labels: expected (n,) class indices, whole numbers; got {given.shape} {given.dtype}"
        )
    known = given.astype(np.int64)
    if not len(known):
        return known, names
    names = names or [str(i) for i in range(int(known.max()) + 1)]
    if not 0 <= known.min() <= known.max() < len(names):
        raise UserError(
            f"labels: expected class indices from 0 to {len(names) - 1}, "
            f"got {known.min()} to {known.max()}"
        )
    return known, names


def _said(names: Sequence[str]) -> str:
    """Say how many classes these are, with the first ones."""
    return f"{len(names):,}: {', '.join(names[:3])}{', …' * (len(names) > 3)}"


def _digest(
    pixels: NDArray[Any], labels: NDArray[np.int64] | None = None, names: Sequence[str] = ()
) -> str:
    return content_digest(pixels, np.zeros(0, np.int64) if labels is None else labels, list(names))


def _loaded(models: object) -> list[LoadedModel]:
    """Load what is given by reference, and check that each model answers as it says."""
    if isinstance(models, str | LoadedModel | nn.Module) or not isinstance(models, Iterable):
        raise UserError(f"models: expected a list of them, got {type(models).__name__}")
    loaded = [load(model) if isinstance(model, str) else _wrapped(model) for model in models]
    for model in loaded:
        for taking_part in (model, *model.seeds):
            _check_outputs(taking_part)
    return loaded


def _check_outputs(model: LoadedModel) -> None:
    """Raise `UserError` unless a model takes an image and has an output for each named class."""
    names, side = model.spec.class_names, model.spec.image_size
    refused = network_errors(f"{model.name} does not take an image of {side} px and 3 channels")
    with refused, own_buffers([model.module]):
        given = model(np.zeros((1, side, side, 3), np.uint8)).shape
    if names and tuple(given) != (1, len(names)):
        got = f"{given[-1]} outputs" if len(given) == 2 else f"an output of {tuple(given[1:])}"
        raise UserError(
            f"{model.name}: expected an output for each of its {len(names)} class_names, "
            f"got {got}; name all of them, or none"
        )


def _wrapped(model: object) -> LoadedModel:
    if isinstance(model, LoadedModel):
        return model
    kind = type(model).__name__
    raise UserError(
        f"models: expected a reference or zoo.wrap(net, image_size=...), got {kind}; wrap it first"
    )
