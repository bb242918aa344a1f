"""The architecture, held by tests: imports point one way, and help is light."""

import ast
import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A room may import what stands before it, and its own.
ORDER = [
    {"errors", "progress"},
    {"measures"},
    {"files"},
    {"config"},
    {"data", "device", "models", "processes"},
    {"capture", "training"},
    {"study"},
    {"figures"},
    {"analyses"},
    {"claims", "experiments"},
    {"comparison", "report"},
    {"registry"},
    {"api", "project"},
    {"cli"},
    {"__init__", "__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def room_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def modules():
    for path in sorted((ROOT / "zoo").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Return the full name of every module that a file imports, at any depth of its code."""
    return tuple(_imports(path))


def _imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if module_file(inner) else node.module


def ours(path: Path):
    """Yield every module of zoo that a file imports; not `zoo`, which holds its version alone."""
    return (module for module in imports(path) if module.startswith("zoo."))


def module_file(module: str) -> Path | None:
    """Return the file of one of our modules, from the project's root."""
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate.relative_to(ROOT)
    return None


def test_imports_point_one_way():
    assert [
        f"{name} imports {imported}"
        for name, path in modules()
        for imported in ours(path)
        if LEVEL[room_of(imported)] > LEVEL[room_of(name)]
    ] == []


def test_no_modules_import_each_other():
    """Not in a circle of any length, wherever in their code they do it."""
    graph = {name: set(ours(path)) for name, path in modules()}
    while free := {name for name, needs in graph.items() if not needs & graph.keys()}:
        graph = {name: needs for name, needs in graph.items() if name not in free}
    assert graph == {}


def test_a_newcomer_finds_few_loose_modules():
    assert len(list((ROOT / "zoo").glob("*.py"))) <= 9


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("mlflow", {"registry"}),
        ("dvc", set()),
        ("click", {"cli"}),
        ("accelerate", {"training"}),
    ],
)
def test_a_tool_is_imported_in_its_room_alone(package, rooms):
    found = {
        room_of(name)
        for name, path in modules()
        if any(i == package or i.startswith(f"{package}.") for i in imports(path))
    }
    assert found <= rooms


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import zoo", ["torch", "mlflow", "numpy"]),
        ("import zoo.cli; zoo.cli.cli.get_command(None, 'compare')", ["torch", "mlflow", "numpy"]),
        ("import zoo.claims, zoo.cli.claims", ["torch", "matplotlib", "scipy", "mlflow"]),
        ("import pipelines.gap", ["mlflow", "dvc"]),
        ("from zoo.analyses import *; [*map(load_analysis, ANALYSES)]", ["scipy.stats", "mlflow"]),
        ("import zoo.registry.register, zoo.registry.listing, zoo.registry.compare", ["torch"]),
    ],
)
def test_importing_is_light(statement, absent):
    code = f"{statement}\nimport sys; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_unpickles():
    for name, path in modules():
        source = path.read_text()
        for call in ("pickle.load", "allow_pickle=True", "weights_only=False"):
            assert call not in source, f"{name} has {call}"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given.get("weights_only") == "True", f"{name}: torch.load unpickles"


@pytest.mark.parametrize("path", sorted(ROOT.glob("pipelines/*.py")), ids=lambda p: p.name)
def test_a_stages_script_is_short(path):
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_benchmarks_use_what_is_there(path):
    importlib.import_module(f"benchmarks.{path.stem}")


@pytest.mark.parametrize(
    ("module", "names"), [("study.identity", "NUMBERS"), ("training.variants", "CODE")]
)
def test_what_decides_the_numbers_is_part_of_their_identity(module, names):
    code = getattr(importlib.import_module(f"zoo.{module}"), names)

    def covered(module: str) -> bool:
        file = module_file(module)
        inside = None if file is None else str(file.relative_to("zoo"))
        return inside is not None and any(inside == c or inside.startswith(f"{c}/") for c in code)

    # The device itself is part of the weights' identity, and what draws is one of the looks.
    changing_no_number = {
        "zoo.device",
        "zoo.errors",
        "zoo.files",
        "zoo.files.folders",
        "zoo.progress",
    }
    used = {
        imported
        for name, path in modules()
        if covered(name) and not name.endswith("_figures")
        for imported in imports(path)
        if imported.startswith("zoo.") and not imported.startswith("zoo.figures")
    }
    assert {module for module in used - changing_no_number if not covered(module)} == set()


def test_importing_changes_no_setting_of_the_process():
    code = (
        "import os; before = dict(os.environ)\n"
        "import zoo.registry; assert os.environ == before\n"
        "import zoo.registry.store; assert not zoo.registry._ENVIRONMENT.keys() & os.environ.keys()"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GIT_PYTHON"))}
    subprocess.run([sys.executable, "-c", code], env=kept, check=True)
