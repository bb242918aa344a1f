"""dvc.yaml against what the scripts import, and the whole way on tiny models."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.ancestors import find_digest
from pipelines.compare import find_model, find_siblings
from tests.conftest import TINY_VIT
from tests.registry.conftest import write_model
from tests.test_imports import imports, module_file
from tests.warm import run
from zoo.config import load_params
from zoo.errors import UserError
from zoo.files import write_json, write_text
from zoo.models.spec import model_digest
from zoo.registry.register import register
from zoo.registry.store import open_store

ROOT = Path(__file__).parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# What changes no output: how a script ends, reports and shows progress, and MLflow's view of
# the outputs. A change there must not train models again.
REPORTING = ("pipelines/__init__.py", "pipelines/paths.py", "zoo/__init__.py", "zoo/errors.py",
             "zoo/files/folders.py", "zoo/progress.py", "zoo/cli/", "zoo/registry/")  # fmt: skip
# But these of the registry choose the images and the models that a stage's numbers are made of.
DECIDING = ("zoo/registry/compare.py", "zoo/registry/images.py")


def closure(script: Path) -> set[str]:
    """Return every file of ours that a script imports and that may change its outputs."""
    seen, left = set(), [script]
    while left:
        path = left.pop()
        reports = str(path).startswith(REPORTING) and str(path) not in DECIDING
        if str(path) in seen or reports:
            continue
        seen.add(str(path))
        left += [file for name in imports(ROOT / path) if (file := module_file(name))]
    return seen


@pytest.mark.parametrize("stage", ["subset", "train", "compare", "effect", "summary"])
def test_a_stages_deps_hold_all_that_decides_its_outputs(stage):
    needed = closure(Path("pipelines") / f"{stage}.py")
    deps = [d for d in STAGES[stage]["deps"] if d.startswith(("zoo", "pipelines"))]
    uncovered = {n for n in needed if not any(n == d or n.startswith(f"{d}/") for d in deps)}
    assert not uncovered
    for dep in deps:
        assert (ROOT / dep).exists(), f"{stage}: {dep} is gone"


def test_a_receipt_that_lacks_a_variant_is_told_with_the_stage_that_mends_it():
    with pytest.raises(UserError, match=r"registered\.json has no vit-small-1: run dvc repro reg"):
        find_model(None, {"vit-small-0": "0" * 64}, "vit-small", 1)


def test_a_comparison_is_over_all_seeds_of_the_study(monkeypatch):
    monkeypatch.setattr("pipelines.compare.find_by_digest", lambda _, name, digest: (name, digest))
    names, receipt = ["a-small", "b-small"], {"a-small-4": "x", "b-small-4": "y", "a-small-9": "z"}
    receipt |= {"b-small-9": "u"}
    assert find_siblings(None, receipt, names, [0, 4, 9]) == [
        (0, ("a-small", "x")),
        (0, ("a-small", "z")),
        (1, ("b-small", "y")),
        (1, ("b-small", "u")),
    ]
    assert find_siblings(None, receipt, names, [0]) == []


def test_published_weights_stand_beside_the_studys_networks_and_have_no_seeds(monkeypatch):
    monkeypatch.setattr("pipelines.compare.find_by_digest", lambda _, name, digest: (name, digest))
    names, receipt = ["a-small", "timm:test_vit.r160_in1k"], {"a-small-0": "x", "a-small-1": "y"}
    own, published = (find_model(None, receipt, name, 0) for name in names)
    assert own == ("a-small", "x")
    assert (published.kind, published.name) == ("timm", "test_vit.r160_in1k")
    assert find_siblings(None, receipt, names, [0, 1]) == [(0, ("a-small", "y"))]


def test_the_summary_is_of_accuracies_on_test_images(tmp_path, monkeypatch):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["study"] = {"models": ["vit", "resnet18"], "subsets": ["small"], "seeds": [0, 1]}
    params["compare"]["pairs"] = []
    write_text(tmp_path / "params.yaml", yaml.safe_dump(params))
    for name, count in (("small", 100), ("test", 359)):
        write_json(tmp_path / f"data/subsets/{name}/subset.json", {"count": count})
    tested = {"vit": (0.5, 0.6), "resnet18": (0.7, 0.9)}
    for model, accuracies in tested.items():
        for seed, accuracy in enumerate(accuracies):
            parts = {"test": accuracy, "validation": accuracy / 2, "train": 1.0}
            known = {"parameters": 9, "images_seen": 200, "seconds": 1.0}
            of = {part: {"accuracy": value} for part, value in parts.items()} | known
            key = f"{model}-small-{seed}"
            write_json(tmp_path / f"metrics/train/{key}.json", of)
            write_text(tmp_path / f"models/{key}/epochs.csv", "step,validation/accuracy\n1,0.1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zoo.figures.saving.save_figure", lambda *_: None)
    runpy.run_module("pipelines.summary", run_name="__main__")
    assert json.loads(Path("summary/metrics.json").read_text()) == {
        "accuracy": {"vit": {"small": 0.55}, "resnet18": {"small": 0.8}},
        "gap_resnet18_vit": {"small": 0.25},
    }
    table = Path("summary/accuracy.md").read_text()
    assert table.startswith("Test accuracy on 359 images")
    assert "| vit | small | 100 | 0.550 ± 0.071 | 2 | 9 | 200 | 1 s |" in table


def test_training_does_not_depend_on_analyses():
    assert not any("analyses" in dep or "report" in dep for dep in STAGES["train"]["deps"])


def clone(root):
    """Make a fresh clone with tiny models in a folder: everything else as it is shipped."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in files:
        if (
            name.startswith(("zoo/", "pipelines/", "params.yaml", "dvc.yaml", ".dvc", ".gitignore"))
            and (ROOT / name).is_file()
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["subsets"] = {"small": 40, "full": 120}
    params["models"]["vit"]["kwargs"] = TINY_VIT
    params["models"]["mixer"]["kwargs"] = {"patch_size": 4, "embed_dim": 16, "num_blocks": 2}
    params["study"] = {"models": ["vit", "mixer"], "subsets": ["small", "full"], "seeds": [0]}
    params["train"] |= {"epochs": 2, "threads": 1}
    params["compare"] |= {"pairs": [["vit-small", "vit-full"]], "images": 40, "batch_size": 20,
                          "only": ["accuracy", "cka", "attention-maps"]}  # fmt: skip
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for command in ("init -q", "add -A", "-c user.name=t -c user.email=t@t commit -qm start"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    return root


@pytest.fixture
def project(tmp_path):
    """A clone, in a folder of its own."""
    return clone(tmp_path / "clone")


@pytest.mark.slow
def test_the_whole_way_and_back(project):
    run(project, "dvc", "repro")
    receipt = json.loads((project / "registered.json").read_text())
    assert sorted(receipt) == ["mixer-full-0", "mixer-small-0", "vit-full-0", "vit-small-0"]
    assert (project / "comparisons" / "vit-small__vit-full" / "report.html").is_file()
    table = (project / "summary" / "accuracy.csv").read_text().splitlines()
    assert len(table) == 5

    # DVC's own pages: an overlaid picture a question, shown without a network; few numbers.
    run(project, "dvc", "plots", "show")
    page = (project / "dvc_plots" / "index.html").read_text()
    shown = re.findall(r'src="static/workspace_(\w+)\.png"', page)
    assert sorted(shown) == ["effect_cka", "summary_accuracy", "summary_learning"]
    assert "http" not in page
    for command in ("add -A", "-c user.name=t -c user.email=t@t commit -qm trained"):
        run(project, "git", *command.split())
    assert not run(project, "git", "ls-files", "dvc_plots", "models", "mlflow.db").stdout
    assert run(project, "dvc", "metrics", "diff").stdout == ""
    status = run(project, "dvc", "status").stdout
    changed = ["always", "changed"]
    assert status.split() == ["ancestors:", *changed, "register:", *changed]  # and nothing else
    others = [stage for stage in STAGES if not STAGES[stage].get("always_changed")]
    assert "up to date" in run(project, "dvc", "status", *others).stdout
    metrics = project / "summary" / "metrics.json"
    kept = metrics.read_text()
    metrics.write_text(kept.replace("0.", "0.5", 1))
    [change] = run(project, "dvc", "metrics", "diff").stdout.splitlines()[1:]
    assert change.split()[1] == "accuracy.vit.small"
    table = run(project, "dvc", "exp", "show", "--no-pager", "--only-changed").stdout
    assert "accuracy.vit.small" in table
    assert "…" not in table
    metrics.write_text(kept)

    again = run(project, "dvc", "repro").stdout
    assert again.count("Running stage") == 2, again
    assert "Running stage 'ancestors'" in again
    assert "Running stage 'register'" in again

    listed = json.loads(run(project, "zoo", "list", "--json").stdout)
    assert {(row["name"], row["version"]) for row in listed} == {
        (f"{m}-{s}", 1) for m in ("vit", "mixer") for s in ("small", "full")
    }
    assert all("best" in row["aliases"] for row in listed)

    # An emptied registry is filled again from DVC's outputs, and nothing is trained.
    for path in project.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(project / "mlartifacts")
    refilled = run(project, "dvc", "repro").stdout
    assert "Running stage 'train" not in refilled
    assert len(json.loads(run(project, "zoo", "list", "--json").stdout)) == 4

    # A change of one setting of the ViT trains the ViT alone.
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["models"]["vit"]["train"]["weight_decay"] = 0.01
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    changed = run(project, "dvc", "repro").stdout
    assert "Running stage 'train@vit-small-0'" in changed
    assert "Running stage 'train@mixer" not in changed
    versions = json.loads(run(project, "zoo", "list", "--json").stdout)
    assert sorted(r["version"] for r in versions if r["name"] == "vit-small") == [1, 2]

    compared = run(
        project,
        "zoo",
        "compare",
        "vit-small/1",
        "vit-small/2",
        "--images",
        "40",
        "--only",
        "cka,accuracy",
    )
    assert "vit-small v1" in compared.stdout
    found = run(
        project,
        "zoo",
        "compare",
        "vit-small/1",
        "vit-small/2",
        "--images",
        "40",
        "--only",
        "cka,accuracy",
    )
    assert found.stdout.startswith("Found: compared on ")

    run(project, "dvc", "exp", "run", "-S", "train.weight_decay=1e-5", "train@mixer-small-0")
    spec = json.loads((project / "models" / "mixer-small-0" / "spec.json").read_text())
    assert spec["training"]["weight_decay"] == 1e-5


@pytest.mark.slow
def test_a_teacher_of_other_weights_trains_its_pupils_again(project, tmp_path):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["models"]["pupil"] = {"arch": "vit-distilled", "kwargs": TINY_VIT, "teacher": "kept"}
    params["study"] = {"models": ["pupil"], "subsets": ["small"], "seeds": [0]}
    params["train"]["epochs"], params["compare"]["pairs"] = 1, []
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    store = open_store(project)
    for seed, trained in ((0, True), (0, False), (1, True)):
        classes = [str(digit) for digit in range(10)]
        folder = write_model(tmp_path, seed, name="kept", class_names=classes)
        teacher = register(store, folder)
        said = run(project, "dvc", "repro", "train@pupil-small-0").stdout
        assert ("Running stage 'train@pupil-small-0'" in said) == trained
        spec = json.loads((project / "models" / "pupil-small-0" / "spec.json").read_text())
        assert spec["lineage"]["teacher_sha256"] == teacher.digest


def test_a_teacher_that_is_to_be_trained_may_not_be_there_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    folder = write_model(tmp_path, name="vit-small")
    assert find_digest(params, str(folder)) == model_digest(folder)
    assert find_digest(params, "timm:resnet18.a1_in1k") == ""
    for unborn in ("models/resnet18-full-0", "resnet18-full@best"):
        assert find_digest(params, unborn) == ""
    for other in ("models/elsewhere", "elsewhere/resnet18-full-0", "./my-resnet18-full-0"):
        with pytest.raises(UserError, match=f"no model in {other}"):
            find_digest(params, other)
    with pytest.raises(UserError, match="no registry"):
        find_digest(params, "my-resnet18-full@best")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"source": "digitz"}}, "unknown source 'digitz'; did you mean 'digits'"),
        ({"subsets": {"small": 99999}}, "99999 images asked for, digits has 1295"),
        ({"train": {"epohcs": 3}}, "unknown key in params.yaml: train: 'epohcs'"),
    ],
)
def test_bad_params_end_in_one_line(project, change, message):
    params = yaml.safe_load((project / "params.yaml").read_text())
    for section, values in change.items():
        params[section] |= values
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    done = run(project, "python", "-m", "pipelines.subset", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (project / "data" / "subsets").exists()


@pytest.mark.slow
def test_other_subsets_replace_zoos_own_and_nothing_else(project):
    """DVC clears a stage's outputs before it runs; what a person put there is not zoo's to lose."""
    subsets = project / "data" / "subsets"

    def cut(sizes):
        params = yaml.safe_load((project / "params.yaml").read_text())
        (project / "params.yaml").write_text(yaml.safe_dump(params | {"subsets": sizes}))
        done = run(project, "dvc", "repro", "subset", check=False)
        return done.returncode, done.stdout + done.stderr

    def held():
        return {path.name for path in subsets.iterdir()}

    assert cut({"small": 40, "full": 120})[0] == 0
    (subsets / "mine").mkdir()
    (subsets / "mine" / "notes.txt").write_text("mine")
    (subsets / "notes.txt").write_text("mine")
    status, said = cut({"small": 40, "full": 120, "few": 20})
    assert status == 0
    assert "mine is kept: it contains notes.txt" in said
    assert held() == {"few", "small", "full", "test", "validation", "mine", "notes.txt"}
    assert cut({"small": 40, "full": 120})[0] == 0  # DVC has kept these
    assert {"mine", "notes.txt"} < held()
    (subsets / "small" / "notes.txt").write_text("mine")
    status, said = cut({"small": 30, "full": 120})
    assert status
    assert "refusing to overwrite data/subsets/small, which zoo did not write: it contains" in said
    assert (subsets / "small" / "notes.txt").read_text() == "mine"
    (subsets / "small" / "notes.txt").unlink()
    assert cut({"small": 30, "full": 120})[0] == 0
    assert "few" not in held()
    # Subsets of another study, where a link leads.
    elsewhere = project.parent / "elsewhere"
    subsets.rename(elsewhere)
    subsets.symlink_to(elsewhere)
    shutil.copytree(elsewhere / "small", elsewhere / "theirs")
    assert cut({"small": 20, "full": 120})[0] == 0
    assert {"theirs", "small", "full"} < held()
    assert subsets.is_symlink()


@pytest.mark.slow
def test_training_goes_on_while_the_server_is_away(project):
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    run(project, "python", "-m", "pipelines.subset")
    trained = run(project, "python", "-m", "pipelines.train", "vit", "small", "0", **away)
    assert "vit-small-0: test accuracy" in trained.stdout
    assert trained.stderr.count("WARNING") == 1
    refused = run(project, "zoo", "register", "models/vit-small-0", check=False, **away)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "127.0.0.1:9" in refused.stderr
    registered = run(project, "zoo", "register", "models/vit-small-0", "--json")
    assert json.loads(registered.stdout)[0]["created"]


@pytest.mark.slow
def test_images_that_stay_in_their_files_are_trained_on_and_registered(project, digit_files):
    digit_files.rename(project / "photos")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["data"] |= {"source": "imagefolder", "root": "photos", "max_array_gb": 0}
    params["subsets"]["full"] = "all"
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    cut = run(project, "python", "-m", "pipelines.subset")
    assert "images stay in photos: as arrays they would be larger than data.max" in cut.stdout
    assert not [*(project / "data" / "subsets").rglob("images.npy")]
    trained = run(project, "python", "-m", "pipelines.train", "vit", "small", "0")
    assert "vit-small-0: test accuracy" in trained.stdout
    registered = run(project, "zoo", "register", "models/vit-small-0", "--json")
    assert json.loads(registered.stdout)[0]["created"]
