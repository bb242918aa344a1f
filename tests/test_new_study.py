"""`zoo init`: a study that is the repository's own pipeline, with digests for its modules."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from zoo.config import load_params
from zoo.errors import UserError
from zoo.project import new_study as module
from zoo.project.new_study import code_digests, new_study, study_stages
from zoo.project.renewal import check_pipeline, renew_study

ROOT = Path(__file__).parent.parent


def test_a_studys_stages_are_the_repositorys_with_digests_in_place_of_modules():
    own = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    made = yaml.safe_load(study_stages((ROOT / "dvc.yaml").read_text()))["stages"]
    code = made.pop("code")
    written = [path for out in code["outs"] for path in out]
    assert written == [f"code/{name}.sha256" for name in code_digests()]
    assert list(made) == list(own)
    for name, stage in own.items():
        theirs = [dep for dep in stage["deps"] if not dep.startswith("zoo/")]
        digest = [f"code/{name}.sha256"] * (len(theirs) < len(stage["deps"]))
        assert sorted(made[name].pop("deps")) == sorted(theirs + digest)
        assert made[name] == {key: value for key, value in stage.items() if key != "deps"}


def test_a_digest_changes_with_the_modules_of_its_stage_alone(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "zoo", tmp_path / "zoo", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "zoo")
    before = code_digests()
    with (tmp_path / "zoo" / "figures" / "style.py").open("a") as style:
        style.write("# another colour\n")
    after = code_digests()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"compare", "effect", "summary"}


def test_a_study_is_complete_under_git_and_dvc_and_has_a_name(tmp_path):
    assert new_study(tmp_path / "flowers") == "flowers"
    folder = tmp_path / "flowers"
    params = load_params(folder / "params.yaml")
    assert params.registered_names["vit-small"] == "flowers.vit-small"
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    scripts = [stage["cmd"].split()[2].replace(".", "/") + ".py" for stage in stages.values()]
    assert all((folder / script).is_file() for script in scripts)
    assert (folder / ".dvc" / "config").is_file()
    ignored = ["git", "check-ignore", "models/vit-small-0", "mlflow.db", "reports/a", ".zoo/cache"]
    done = subprocess.run(ignored, cwd=folder, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 4
    with pytest.raises(UserError, match="is not empty: expected a new"):
        new_study(folder)


def test_what_a_killed_process_left_of_a_study_is_completed(tmp_path, monkeypatch):
    killed, whole = tmp_path / "killed" / "s", tmp_path / "whole" / "s"
    with monkeypatch.context() as patch:
        patch.setattr("zoo.project.new_study._begin", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            new_study(killed)
    (killed / "dvc.yaml").write_text((killed / "dvc.yaml").read_text()[:99])
    (killed / ".dvc" / "tmp").mkdir(parents=True)
    with pytest.raises(UserError, match="is not empty"):  # of another study
        new_study(killed, source="cifar10")
    new_study(killed)
    new_study(whole)
    ours = [path.relative_to(whole) for path in whole.rglob("*") if ".git" not in path.parts]
    assert {path for path in ours if not (killed / path).exists()} == set()
    assert (killed / "dvc.yaml").read_text() == (whole / "dvc.yaml").read_text()
    assert not (killed / ".zoo-init").exists()


def test_what_a_person_changed_since_is_not_overwritten(tmp_path):
    new_study(tmp_path / "s")
    (tmp_path / "s" / ".zoo-init").touch()
    (tmp_path / "s" / "params.yaml").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        new_study(tmp_path / "s")
    assert (tmp_path / "s" / "params.yaml").read_text() == "mine"


def test_a_study_in_a_repository_is_a_part_of_it(tmp_path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    new_study(tmp_path / "inner")
    assert not (tmp_path / "inner" / ".git").exists()
    assert (tmp_path / "inner" / ".dvc").is_dir()


def test_subset_sizes_fit_the_images_that_are_there(tmp_path):
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(20):
            pixels = np.full((8, 8, 3), i, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{i}.png")
    new_study(tmp_path / "s", source="imagefolder", root=tmp_path / "images")
    params = load_params(tmp_path / "s" / "params.yaml")
    assert params.data.source == "imagefolder"
    assert params.data.root == str(tmp_path / "images")
    assert params.subsets == {"small": 2, "medium": 9, "full": "all"}
    assert params.compare.images == 8  # all of the test split
    # 2, 9 and 36 images are one step each in an epoch.
    assert params.train.epochs == {"small": 300, "medium": 300, "full": 300}
    # Nothing that was measured on digits stands there as a result; the papers' values do.
    text = (tmp_path / "s" / "params.yaml").read_text()
    assert not re.search("result|0[.]565|variants of", text, re.IGNORECASE)
    assert text.count("paper: ") == (ROOT / "params.yaml").read_text().count("paper: ")
    assert f"\n  small: {2:<16}# images" in text
    assert "\n  medium: 9\n" in text


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"name": "a.b"}, "at most 64 of .*, got 'a.b'; choose one by --name"),
        ({"source": "imagefoldr"}, "did you mean 'imagefolder'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, known, message):
    with pytest.raises(UserError, match=message):
        new_study(tmp_path / "s", **known)
    assert not (tmp_path / "s").exists()


def test_a_study_of_an_older_zoo_is_told_and_renewed(tmp_path):
    folder = tmp_path / "s"
    new_study(folder)
    assert [check.status for check in check_pipeline(folder)] == ["ok"]
    whole = (folder / "pipelines" / "train.py").read_text()
    (folder / "pipelines" / "train.py").write_text("# of an older zoo\n")
    (folder / "pipelines" / "gap.py").unlink()
    (folder / "params.yaml").write_text("# mine\n")
    [told] = check_pipeline(folder)
    assert told.status == "warning"
    assert told.found.startswith("pipelines/gap.py, pipelines/train.py: changed here, or of an")
    assert renew_study(folder) == ["pipelines/gap.py", "pipelines/train.py"]
    assert (folder / "pipelines" / "train.py").read_text() == whole
    assert (folder / "params.yaml").read_text() == "# mine\n"
    assert renew_study(folder) == []


def test_only_a_study_is_renewed(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages:\n  mine:\n    cmd: true\n")
    assert list(check_pipeline(tmp_path)) == []
    with pytest.raises(UserError, match="expected a study that `zoo init` made"):
        renew_study(tmp_path)
    assert not (tmp_path / "pipelines").exists()
