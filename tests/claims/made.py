"""Models and results written by hand, and what the claims make of them."""

from types import SimpleNamespace

import numpy as np

from zoo.claims import judge
from zoo.config import Settings
from zoo.study.networks import Grid
from zoo.study.results import Array, Result

LAYERS = ("stem", "b.0", "b.1", "b.2", "b.3", "b.4", "head")
ROLES = dict(zip(LAYERS, ["stem", *["block"] * 5, "head"], strict=True))


class Roles(dict):
    def __getitem__(self, name):
        return SimpleNamespace(role=super().__getitem__(name))


def subject(name, family, subset="s", count=100, *, arch="", pools="token", parameters=10**7):
    """A model; a ViT has 4 × 4 patches of 4 pixels and reads what `pools` says."""
    spec = SimpleNamespace(
        arch=arch or family, kwargs={}, image_size=16, source="digits", subset=subset,
        subset_digest=subset, subset_count=count, parameters=parameters, seed=0,
    )  # fmt: skip
    module = SimpleNamespace(global_pool=pools)
    grid = Grid(1 if pools == "token" else 0, 4, 4, 4.0) if family == "vit" else None
    return SimpleNamespace(
        name=name, family=family, role="model", layers=LAYERS, trace=Roles(ROLES), grid=grid,
        model=SimpleNamespace(spec=spec, module=module),
    )  # fmt: skip


VIT, CNN = subject("v", "vit"), subject("c", "cnn")
# Names in the order of the claims' groups: ViT on less and on more, CNN on less and on more.
LESS_AND_MORE = [VIT, subject("w", "vit", "t", 400), CNN, subject("d", "cnn", "t", 400)]
GAP = subject("g", "vit", arch="vit-gap", pools="avg")


def verdicts(models, **results):
    """Return verdicts by (claim, names of the models); an analysis' dashes are underscores."""
    settings = Settings(references=False)
    study = SimpleNamespace(models=tuple(models), images=np.zeros((50, 1)), settings=settings)
    named = {name.replace("_", "-"): result for name, result in results.items()}
    findings = SimpleNamespace(study=study, results=named, not_applicable={})
    return {(v.claim.id, v.models): v for v in judge(findings)}


def metrics(values, **arrays):
    """A result of metrics, and of arrays by name."""
    dims = {name: tuple("abc"[: np.ndim(a)]) for name, a in arrays.items()}
    made = {name: Array(np.asarray(a, float), dims[name]) for name, a in arrays.items()}
    return Result((), made, values)


def arrays(**values):
    """A result of arrays: `distance__v` stands for `distance/v`."""
    return metrics({}, **{name.replace("__", "/", 1): value for name, value in values.items()})
