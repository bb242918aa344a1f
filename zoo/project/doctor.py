"""What is wrong with an installation or a project, and how to fix it; nothing is changed."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import yaml

from zoo.errors import UserError, counted
from zoo.registry.local_database import database_path, store_address

PACKAGE = "vision-zoo"
SHOWN = ("torch", "torchvision", "timm", "mlflow", "dvc")
DVC_SECONDS = 120
DVC_AT_WORK = re.compile("is busy, it is being blocked by|Unable to acquire lock")
CHECKPOINT = "checkpoint.safetensors"
LITTLE_BYTES, FULL_BYTES = 5 << 30, 500 << 20

# Files that DVC does not write atomically, and what to do when a kill left half of one.
LOCK_FIXES = {
    "dvc.lock": "git checkout dvc.lock, or rm dvc.lock: what is done is taken from dvc's cache",
    ".dvc/tmp/rwlock": "rm .dvc/tmp/rwlock, when no dvc is at work: it only says which one is",
}

KEPT = "kept: a process is using it, or zoo did not write all of it; check it by hand"

# For findings that do not say how to fix them.
FIXES = {"params": "correct it in params.yaml (git diff params.yaml shows what was changed)"}
LOOK = "zoo -v doctor says where it arose"

Status = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Check:
    """What was checked, its status, and how to fix what is wrong."""

    name: str
    status: Status
    found: str
    fix: str = ""


def examine(checks: Iterable[Callable[[], Iterable[Check]]]) -> Iterator[Check]:
    """Run checks one by one; an exception becomes that check's finding, and the others continue."""
    for check in checks:
        try:
            yield from check()
        except UserError as error:
            found, fix = _split(str(error))
            yield Check(_name(check), "wrong", found, fix or FIXES.get(_name(check), LOOK))
        except Exception as error:  # a broken installation may raise anything
            found = " ".join(f"{type(error).__name__}: {error}".split())
            fix = LOOK if isinstance(error, OSError) else "install zoo again: make setup"
            yield Check(_name(check), "wrong", found[:300], fix)


def _name(check: Callable[[], Iterable[Check]]) -> str:
    inner = getattr(check, "func", check)
    return str(inner.__name__).removeprefix("check_")


def _split(message: str) -> tuple[str, str]:
    """Split a message into what is wrong and, after the semicolon, what to do."""
    found, _, fix = " ".join(message.split()).partition("; ")
    return found, fix


def check_packages() -> Iterator[Check]:
    """Compare the version of every package that zoo needs with the one it asks for."""
    from packaging.requirements import Requirement

    yield Check("python", "ok", f"{platform.python_version()} ({sys.executable})")
    shown, unfit = [], False
    for requirement in map(Requirement, metadata.requires(PACKAGE) or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = ""
        if not requirement.specifier.contains(version or "0", prereleases=True) or not version:
            unfit = True
            found = f"{version or 'not installed'}, expected {requirement.specifier}"
            fix = f"pip install '{requirement.name}{requirement.specifier}'"
            yield Check(requirement.name, "wrong", found, fix)
        elif requirement.name in SHOWN:
            shown.append(f"{requirement.name} {version}")
    if not unfit:
        yield Check("packages", "ok", ", ".join(shown))


def check_torchvision() -> Iterator[Check]:
    """Try to import torchvision, which fails if it was built for another torch."""
    fix = "install both together: pip install --upgrade torch torchvision"
    try:
        import torchvision as _  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        found = (
            f"cannot be imported beside torch {metadata.version('torch')}: "
            f"{' '.join(str(error).split())[:200]}"
        )
        yield Check("torchvision", "wrong", found, fix)


def check_device() -> Iterator[Check]:
    """Report where networks will run, on how many threads, and whether bfloat16 is fast there."""
    import torch

    from zoo.device import parse_device
    from zoo.training.hardware import use_bf16

    threads = torch.get_num_threads()
    # macOS and Windows do not say which cores a process may use.
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    device, training = parse_device(""), parse_device("", doubles=False)
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    if training != device:
        name += f"; for training {training}"
    precision = "bf16" if use_bf16("auto") else "float32 (bf16 would be slow here)"
    yield Check("device", "ok", f"{device} ({name}), {threads} of {cores} cores, {precision}")
    if threads > cores:
        found = f"{threads} threads on {cores} cores: slower than {cores}"
        yield Check("threads", "warning", found, f"export OMP_NUM_THREADS={cores}")
    if device == "cpu" and shutil.which("nvidia-smi"):
        found = f"there is an NVIDIA driver, but torch {torch.__version__} finds no GPU"
        fix = "see https://pytorch.org/get-started for a torch that fits the driver"
        yield Check("gpu", "warning", found, fix)


def check_disk(root: Path) -> Iterator[Check]:
    """Report the free space on the project's disk."""
    free = shutil.disk_usage(root).free
    status: Status = "wrong" if free < FULL_BYTES else "warning" if free < LITTLE_BYTES else "ok"
    cache = "rm -r .zoo/cache (what is needed of it is fetched or computed again)"
    fix = "" if status == "ok" else f"free some, e.g. {cache}, dvc gc -w"
    yield Check("disk", status, f"{free / (1 << 30):.1f} GB free in {root}", fix)


def check_store(root: Path) -> Iterator[Check]:
    """Look into the store, without creating one."""
    path = database_path(store_address(root))
    if path is not None and not path.exists():
        yield Check("store", "ok", f"none yet; {path} is made when a model is registered")
        return
    from zoo.registry.listing import list_versions
    from zoo.registry.store import open_store, shared_store_warning, show_uri

    store = open_store(root, create=False)
    rows = list_versions(store)
    if told := shared_store_warning(store):
        yield Check("store", "warning", *told)
    models = counted(len({row.name for row in rows}), "model")
    found = f"{show_uri(store)}: {counted(len(rows), 'version')} of {models}"
    yield Check("store", "ok", found)


def check_params(root: Path) -> Iterator[Check]:
    """Read params.yaml as every stage does, and check the names in it."""
    from zoo.analyses import check_analyses
    from zoo.config import load_params
    from zoo.data.sources import check_source
    from zoo.models.build import check_arch

    params = load_params(root / "params.yaml")
    check_source(params.data.source)
    check_analyses(params.compare)
    for name, model in params.models.items():
        try:
            check_arch(model.arch)
        except UserError as error:
            raise UserError(f"models.{name}.arch: {error}") from None
    yield Check("params", "ok", f"params.yaml: {counted(len(params.variants), 'variant')} to train")


def check_data(root: Path) -> Iterator[Check]:
    """Read every subset and compare it with its digest."""
    from zoo.data.subsets import load_subset, verify_subset

    folder = root / "data" / "subsets"
    subsets = sorted(path.parent for path in folder.glob("*/subset.json"))
    if not subsets:
        yield Check("data", "warning", f"no subsets in {folder}", "dvc repro subset")
        return
    read = []
    for path in subsets:
        try:
            subset = load_subset(path)
            verify_subset(subset)
            read.append(f"{path.name} {len(subset):,}")
        except UserError as error:
            found, fix = _split(str(error))
            yield Check("data", "wrong", found, fix or "dvc repro --force subset")
    if len(read) == len(subsets):
        yield Check("data", "ok", f"{', '.join(read)} images; digests are right")


def check_dvc(root: Path) -> Iterator[Check]:
    """Ask DVC which stages are out of date."""
    if not (root / ".dvc").is_dir():
        yield Check("dvc", "wrong", f"no {root / '.dvc'}", "dvc init (or: dvc init --no-scm)")
        return
    locks = [(_damaged_lock(root / name), fix) for name, fix in LOCK_FIXES.items()]
    if damaged := [Check("dvc", "wrong", found, fix) for found, fix in locks if found]:
        yield from damaged
        return
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=False, timeout=DVC_SECONDS
        )
    except subprocess.TimeoutExpired:
        found = f"dvc status took longer than {DVC_SECONDS} s and was ended"
        yield Check("dvc", "warning", found, "dvc status (takes the time that it needs)")
        return
    if done.returncode and DVC_AT_WORK.search(done.stderr):
        yield Check("dvc", "ok", "another dvc is at work in this project")
        return
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        said = lines[0].removeprefix("ERROR: ") if lines else done.stderr
        fix = LOCK_FIXES["dvc.lock"] if "dvc.lock'" in said else "dvc status (says more)"
        yield Check("dvc", "wrong", " ".join(said.split())[:200], fix)
        return
    state = json.loads(done.stdout or "{}")
    stale = [stage for stage, changes in state.items() if changes != ["always changed"]]
    if not stale:
        yield Check("dvc", "ok", "every stage is up to date")
        return
    named = ", ".join(stale[:3]) + (", …" if len(stale) > 3 else "")
    found = f"{counted(len(stale), 'stage')} out of date: {named}"
    yield Check("dvc", "warning", found, "dvc repro")


def _damaged_lock(path: Path) -> str:
    """Say what is wrong with a lock file of DVC; empty if nothing is."""
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        whole = isinstance(yaml.safe_load(text), dict)
    except yaml.YAMLError:
        whole = False
    if whole:
        return ""
    state = "damaged" if text.strip() else "empty"
    return f"{path} is {state}, as a kill leaves it while dvc writes it"


def check_leftovers(root: Path, *, clean: bool = False) -> Iterator[Check]:
    """Look for leftovers of interrupted processes, and for processes at work."""
    from zoo.project.leftovers import find_leftovers, held_locks

    own, working = root / ".zoo", held_locks(root)
    if working:
        names = ", ".join(path.relative_to(own).as_posix() for path in working)
        yield Check("at work", "ok", f"another process holds {names}")
    locks = [path for path in own.glob("checkpoints/*.lock") if path not in working]
    stopped = [lock for lock in locks if (lock.with_suffix("") / CHECKPOINT).exists()]
    if stopped:
        found = f"{counted(len(stopped), 'interrupted training run')} in {own / 'checkpoints'}"
        fix = "dvc repro continues those that it still needs; rm -r .zoo/checkpoints forgets all"
        yield Check("checkpoints", "warning", found, fix)
    for left in find_leftovers(root):
        found = f"{left.kind} {left.label}"
        if not clean:
            yield Check("leftovers", "warning", found, "zoo doctor --clean removes it")
        elif left.remove():
            yield Check("leftovers", "ok", f"removed: {found}")
        else:
            yield Check("leftovers", "warning", found, KEPT)
