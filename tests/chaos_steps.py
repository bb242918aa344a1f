"""Commands as steps, in forks of a warmed process: of `tests.chaos`, and of `tests.warm`."""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

NETWORK = {"patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 1}
PARAMS = {
    "data": {"source": "digits", "root": "raw", "image_size": 16, "validation": 0.1, "seed": 0},
    "subsets": {"small": 20},
    "models": {name: {"arch": name, "kwargs": NETWORK} for name in ("vit", "vit-gap")},
    "study": {"models": ["vit", "vit-gap"], "subsets": ["small"], "seeds": [0]},
    "train": {"epochs": 2, "batch_size": 20, "learning_rate": 0.001, "threads": 1},
    "compare": {"pairs": [["vit-small", "vit-gap-small"]], "images": 20, "batch_size": 10,
                "only": ["cka"]},
}  # fmt: skip
FACTORY = """
import torch
def make(num_classes=10):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1),
                               torch.nn.Flatten(), torch.nn.Linear(4, num_classes))
if __name__ == "__main__":
    from safetensors.torch import save_file
    save_file(make().state_dict(), "factory.safetensors")
"""

Step = Callable[[], None]


def zoo(*arguments: str) -> Step:
    """Return a step: a command of the command line."""

    def run() -> None:
        from zoo.cli import main

        sys.argv = ["zoo", *arguments]
        main()

    return run


def python(_m: str, module: str, *arguments: str) -> Step:
    """Return a step: `python -m MODULE ...`."""

    def run() -> None:
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    return run


def stage(name: str, *arguments: str) -> Step:
    """Return a step: a stage of the pipeline."""
    return python("-m", f"pipelines.{name}", *arguments)


def dvc(*arguments: str) -> Step:
    """Return a step: a command of DVC, whose stages are forks instead of new interpreters."""

    def run() -> None:
        import dvc.stage.run as dvc_run
        from dvc.cli import main

        dvc_run._run = _fork_stage
        sys.exit(main([*arguments]))

    return run


def _fork_stage(_executable: str, command: str, *, cwd: str, env: dict[str, str], **_: Any) -> None:
    from dvc.stage.exceptions import StageCmdFailedError

    _python, *arguments = shlex.split(command)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        os.environ.update(env)
        end(python(*arguments))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGINT, handler)
    if code:
        raise StageCmdFailedError(command, code)


@dataclass(frozen=True)
class Scenario:
    """What is disturbed: `steps`, from what `before` made; then `after` runs in peace."""

    before: tuple[Step, ...]
    steps: tuple[Step, ...]
    after: tuple[Step, ...] = ()
    may_be_done: bool = False  # the command again says, with status 2, that it was done


SUBSET = stage("subset")
TRAIN = tuple(stage("train", model, "small", "0") for model in ("vit", "vit-gap"))
TRAINED = (SUBSET, *TRAIN)
REGISTER = zoo("register")
REGISTERED = (*TRAINED, REGISTER)
COMPARE = zoo("compare", "vit-small", "vit-gap-small", "--only", "cka", "--images", "20")
IMPORT = zoo(
    "import", "factory:make", "--name", "mine", "--weights", "factory.safetensors",
    "--classes", "10", "--image-size", "16", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5",
)  # fmt: skip
REMOVE = zoo("rm", "vit-small/1", "--yes")
TRANSFER = zoo("transfer", "vit-small", "--source", "digits", "--subset", "20", "--epochs", "1")
REPRO = dvc("repro")
SCENARIOS = {
    "train": Scenario((SUBSET,), TRAIN[:1], (TRAIN[1], REGISTER)),
    "register": Scenario(TRAINED, (REGISTER,)),
    "train again": Scenario(REGISTERED, TRAIN[:1], (REGISTER,)),
    "compare": Scenario(REGISTERED, (COMPARE,)),
    "import": Scenario(REGISTERED, (IMPORT,)),
    "rm": Scenario(REGISTERED, (REMOVE,), (REGISTER,), may_be_done=True),
    "tag": Scenario(REGISTERED, (zoo("tag", "vit-small", "kind=best"),)),
    "pull": Scenario(REGISTERED, (zoo("pull", "vit-small", "pulled"),)),
    "repro": Scenario((), (REPRO,)),
    "fingerprint": Scenario(REGISTERED, (zoo("fingerprint", "--images", "60"),)),
    "map": Scenario(REGISTERED, (zoo("map", "--images", "60"),)),
    "probe": Scenario(REGISTERED, (zoo("probe", "vit-small"),)),
    "transfer": Scenario(REGISTERED, (TRANSFER,)),
}


def warm() -> None:
    """Import what commands need, so that their forks have it."""
    for name in (
        *("dvc.cli.parser", "dvc.repo.experiments.run", "dvc.repo.index", "dvc.repo.open_repo"),
        *("dvc.repo.reproduce", "dvc.rwlock", "dvc_data.hashfile.db.local", "networkx"),
        *("mlflow", "mlflow.store.model_registry.sqlalchemy_workspace_store"),
        *("mlflow.store.tracking.sqlalchemy_workspace_store", "alembic.config"),
        *("sqlalchemy.dialects.sqlite", "h5netcdf", "matplotlib.pyplot", "pyarrow.pandas_compat"),
        *("sklearn.datasets", "timm.optim", "torchvision.transforms.v2"),
        *("zoo.analyses.engine", "zoo.experiments.transfer_report", "zoo.registry.compare"),
        *("zoo.experiments.probing_report", "zoo.project.leftovers"),
        *("zoo.registry.removal", "zoo.registry.register", "zoo.registry.pictures"),
        *("zoo.registry.tracking", "zoo.report.html", "zoo.training.variants"),
    ):
        importlib.import_module(name)
    from zoo.analyses.engine import choose_analyses

    choose_analyses((), ())
    gc.freeze()  # in a fork, a collection would copy the pages of all that is here


def end(step: Step) -> None:
    """Do a step in a fork and leave it as a process does."""
    code = 1
    try:
        step()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else bool(ended.code)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
