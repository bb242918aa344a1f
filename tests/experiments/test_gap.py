import dataclasses
import json
import math
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from scipy import stats

import zoo
from tests.chaos_steps import end
from tests.warm import do, run
from zoo.config import Settings, load_params
from zoo.data.sources import load_source
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.experiments.gap import Run, run_study
from zoo.experiments.gap_representation import MEASURES, Seen, summarise_seen
from zoo.experiments.gap_summary import as_markdown, draw, summarise
from zoo.files import csv_text
from zoo.measures.intervals import ratio_of_means
from zoo.models.files import load_model

STUDY = Path(__file__).parents[2] / "studies" / "gap.yaml"
GAP = load_params(STUDY).gap


def made(model, seed, test, *, images=500, validation=0.5):
    return Run(model, f"n{images}", seed, images, 500, 0.001, 1000, test, validation, 1.0)


def test_a_ratios_interval_is_what_a_t_test_does_not_reject():
    rng = np.random.default_rng(0)
    below = rng.normal(0.2, 0.02, 5)
    above = 0.5 * below + rng.normal(0, 0.02, 5)
    ratio, low, high = ratio_of_means(above, below)
    assert ratio == pytest.approx(above.mean() / below.mean())
    for edge, inside in ((low, 1e-4), (high, -1e-4)):
        assert stats.ttest_1samp(above - edge * below, 0).pvalue == pytest.approx(0.05)
        assert stats.ttest_1samp(above - (edge + inside) * below, 0).pvalue > 0.05


def test_a_ratio_to_what_may_be_zero_has_no_ends_and_one_pair_no_interval():
    _, low, high = ratio_of_means(np.array([0.1, 0.2, 0.1]), np.array([0.1, -0.2, 0.15]))
    assert (low, high) == (-math.inf, math.inf)
    assert all(map(math.isnan, ratio_of_means(np.array([1.0]), np.array([2.0]))[1:]))
    with pytest.raises(ValueError, match="expected as many values as divisors, got 2 and 1"):
        ratio_of_means(np.ones(2), np.ones(1))


def test_the_share_is_of_the_gap_to_the_cnn_that_validation_prefers():
    runs = [
        *(made("vit", seed, 0.30 + 0.01 * seed) for seed in range(3)),
        *(made("cnn", seed, 0.60, validation=0.4) for seed in range(3)),
        *(made("cnn-recipe", seed, 0.50 + 0.01 * seed, validation=0.6) for seed in range(3)),
        *(made("vit-cct", seed, 0.40 + 0.01 * seed) for seed in range(2)),
        made("vit-stem", 7, 0.99),  # a seed without the ends of the gap
        made("vit", 0, 0.1, images=1000),  # no CNN yet
    ]
    rows = {row.model: row for row in summarise(runs, GAP)}
    assert set(rows) == {"vit", "cnn", "cnn-recipe", "vit-cct"}
    assert {row.reference for row in rows.values()} == {"cnn-recipe"}
    assert rows["vit"].share == 0
    assert rows["cnn-recipe"].share == pytest.approx(1)
    assert rows["vit-cct"].share == pytest.approx(0.5)
    assert rows["vit-cct"].seeds == 2
    assert rows["vit"].gap == pytest.approx(0.2)
    # The test images choose no reference: the other CNN has the better accuracy on them.
    assert rows["cnn"].share > 1


def test_the_table_names_what_has_no_interval():
    one = summarise([made("vit", 0, 0.3), made("cnn", 0, 0.5), made("cnn-recipe", 0, 0.4)], GAP)
    assert (
        "| 500 | vit | 1 | 0.300 (no interval) | 0% (no interval) | 500 | 0.001 |"
        in as_markdown(one, GAP)
    )
    assert csv_text([dataclasses.asdict(row) for row in one]).startswith(
        "model,images,seeds,accuracy"
    )
    for ahead, words in ((0.0, "(there is no gap)"), (0.001, "(the gap is not clear)")):
        level = [made(m, s, 0.3 + (0.01 * s + ahead) * (m == "cnn"))
                 for m in ("vit", "cnn", "cnn-recipe") for s in (-1, 0, 1)]  # fmt: skip
        assert words in as_markdown(summarise(level, GAP), GAP)


def test_the_figure_has_a_mark_for_each_change_and_size():
    runs = [
        made(model, seed, accuracy + 0.01 * seed, images=images)
        for images in (500, 1000, 5000)
        for seed in (0, 1)
        for model, accuracy in (("vit", 0.3), ("cnn", 0.5), ("cnn-recipe", 0.4), ("vit-cct", 0.45))
    ]
    figure = draw(summarise(runs, GAP), GAP)
    assert figure.get_suptitle().startswith("Trained on 500, 1,000 and 5,000 images, tested on ")
    accuracy, share = figure.axes
    # From the least share to the largest, the baseline with none of it first.
    names = ["vit", "cnn-recipe", "vit-cct", "cnn"]
    assert [t.get_text() for t in accuracy.get_yticklabels()] == names
    shares, accuracies = (
        [c.lines[0].get_xdata().astype(float) for c in axis.containers]
        for axis in (share, accuracy)
    )
    assert len(shares) == len(accuracies) == 3
    np.testing.assert_allclose(shares[0], [100, 50, 75], atol=1e-6)
    np.testing.assert_allclose(accuracies[1], [30.5, 50.5, 40.5, 45.5], atol=1e-6)
    low, high = share.get_xlim()
    assert -100 <= low < 0
    assert 100 < high <= 200
    assert "(%)" in share.get_xlabel()


def test_an_interval_that_goes_on_beyond_the_figure_ends_in_an_arrow():
    rows = summarise([made(m, s, a) for s in (0, 1) for m, a in (("vit", 0.3), ("cnn", 0.5))], GAP)
    ends = {"a": (0.1, 0.9), "b": (-9.0, 0.9), "c": (0.1, 2.01), "d": (-9.0, 9.0)}
    rows += [
        dataclasses.replace(rows[1], model=name, share=0.5, share_low=low, share_high=high)
        for name, (low, high) in ends.items()
    ]
    accuracy, share = draw(rows, GAP).axes
    names = [label.get_text() for label in accuracy.get_yticklabels()]
    arrows = {
        (names[round(float(line.get_ydata()[0]))], line.get_marker()): float(line.get_xdata()[0])
        for line in share.lines
        if line.get_marker() in ("<", ">")
    }
    assert arrows == {("b", "<"): -100, ("c", ">"): 200, ("d", "<"): -100, ("d", ">"): 200}
    assert share.get_xlim() == (-100, 200)
    assert share.get_xlabel().endswith("arrows: the interval goes on")
    _, share = draw([row for row in rows if row.model in ("vit", "cnn", "a")], GAP).axes
    assert "arrows" not in share.get_xlabel()


@pytest.fixture(scope="module")
def params_file(tmp_path_factory):
    """The study of the repository on digits, tiny and with few models."""
    content = yaml.safe_load(STUDY.read_text())
    content["data"] |= {"source": "digits", "image_size": 16}
    content["subsets"] = {"n500": 40}
    content["models"] = {
        "vit": {"arch": "vit", "kwargs": {"patch_size": 4, "embed_dim": 16, "depth": 2}},
        "cnn": {"arch": "resnet18", "kwargs": {"channels": [8, 8, 8, 8]}},
    }
    content["study"] = {"models": ["vit", "cnn"], "subsets": ["n500"], "seeds": [0, 1]}
    content["train"] |= {"steps": 3, "validate_steps": 3}
    content["gap"] |= {"references": ["cnn"], "tuned": {"vit": [], "cnn": []}, "test_images": 50,
                       "learning_rates": [0.001, 0.01]}  # fmt: skip
    content["compare"] |= {"pairs": [["vit-n500", "cnn-n500"]]}
    file = tmp_path_factory.mktemp("gap") / "params.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def params(params_file):
    return load_params(params_file)


@pytest.mark.slow
def test_the_command_writes_table_and_figure(params_file, tmp_path):
    shutil.copy(params_file, tmp_path)
    done = run(tmp_path, "python", "-m", "pipelines.gap")
    assert len(done.stdout.splitlines()) == 4
    summary = tmp_path / "summary"
    assert (summary / "gap.png").stat().st_size > 5000
    assert len((summary / "gap.csv").read_text().splitlines()) == 3
    assert "| 40 | cnn | 2 |" in (summary / "gap.md").read_text()
    seen = pd.read_csv(summary / "representation.csv").set_index(["model", "measure"])["value"]
    assert set(seen["cnn"].index) == {"cka_with_much", "field", "high_frequency"}
    assert set(seen["vit"].index) == set(MEASURES)
    assert (summary / "representation-40.png").stat().st_size > 5000
    # Measured again from the saved networks, by the definitions; the table has six decimals.
    models = [load_model(tmp_path / "models" / f"{m}-n500-{s}", name=f"{m}{s}")
              for m in ("vit", "cnn") for s in (0, 1)]  # fmt: skip
    images = load_subset(next(tmp_path.glob("subsets/*-0/test"))).images
    settings = Settings(batch_size=128, references=False)
    cka = zoo.compare(models, images, only="cka", settings=settings)["cka"]["cka"]
    best = [zoo.select(cka, f"vit{s}", f"cnn{s}").max("layer_b").mean() for s in (0, 1)]
    assert seen["vit", "cka_with_cnn"] == pytest.approx(np.mean(best), abs=1e-6)
    blocks = cka.isel(layer=cka.role == "block", layer_b=cka.role_b == "block")
    last = [zoo.select(blocks, f"vit{s}", f"cnn{s}").values[-1, -1] for s in (0, 1)]
    assert seen["vit", "last_cka_with_cnn"] == pytest.approx(np.mean(last), abs=1e-6)
    across = [zoo.select(cka, f"vit{s}", f"vit{1 - s}").max("layer_b").mean() for s in (0, 1)]
    assert seen["vit", "cka_with_much"] == pytest.approx(np.mean(across), abs=1e-6)


def test_seeds_that_tie_have_no_interval():
    accuracies = {"vit": (0.3, 0.3, 0.3), "cnn": (0.1 + 0.4, 0.5, 0.2 + 0.3), "vit-cct": (0.4,) * 3}
    runs = [made(m, seed, test) for m, of in accuracies.items() for seed, test in enumerate(of)]
    table = as_markdown(summarise(runs, GAP), GAP)
    assert "| vit-cct | 3 | 0.400 (no interval) | 50% (no interval) |" in table
    assert "| cnn | 3 | 0.500 (no interval) | 100% (no interval) |" in table
    seen = [Seen("vit", 40, s, 0.9, 0.9, 0.9, 0.1 * 3, f, 0.0) for s, f in enumerate((0.2, 0.3))]
    rows = {row.measure: row for row in summarise_seen(seen)}
    assert math.isnan(rows["attention_distance"].low)
    assert rows["field"].low == 0
    draw(summarise(runs, GAP), GAP)


def test_each_seed_draws_its_own_images_and_a_study_continues(params, tmp_path):
    digits = load_source("digits", Path())
    runs = list(run_study(params, params.gap, digits, tmp_path))
    assert [(r.model, r.seed) for r in runs] == [("vit", 0), ("vit", 1), ("cnn", 0), ("cnn", 1)]
    assert {r.steps for r in runs} == {3}
    infos = [
        json.loads(next(tmp_path.glob(f"subsets/*-{seed}/{name}/subset.json")).read_text())
        for seed in ("0", "1", "100") for name in ("n500", "test")
    ]  # fmt: skip
    assert len({info["digest"] for info in infos if info["name"] == "n500"}) == 3
    tested = [sorted(info["indices"]) for info in infos if info["name"] == "test"]
    assert tested == [list(range(50))] * 3  # all that the test split was cut to
    # The rate is the one of the better validation on the tuning seed.
    for model in ("vit", "cnn"):
        tried = {
            rate: json.loads(
                (tmp_path / f"tuning/{rate:g}/metrics/{model}-n500-100.json").read_text()
            )["validation"]
            for rate in (0.001, 0.01)
        }
        used = {r.learning_rate for r in runs if r.model == model}
        assert used == {max(tried, key=lambda rate: tried[rate])}
    # What is recorded is not trained again; what is not, is, with the same result.
    (tmp_path / "metrics" / "vit-n500-1.json").unlink()
    kept = (tmp_path / "models" / "cnn-n500-0" / "model.safetensors").stat().st_mtime_ns
    again = list(run_study(params, params.gap, digits, tmp_path))
    assert [dataclasses.replace(r, seconds=0) for r in again] == [
        dataclasses.replace(r, seconds=0) for r in runs
    ]
    assert (tmp_path / "models" / "cnn-n500-0" / "model.safetensors").stat().st_mtime_ns == kept
    # Another recipe is another run, under whatever name its record is kept.
    longer = dataclasses.replace(params, train=dataclasses.replace(params.train, steps=4))
    assert {run.steps for run in run_study(longer, params.gap, digits, tmp_path)} == {4}


def test_what_another_process_trains_is_passed_over_and_read_at_the_end(
    params, tmp_path, monkeypatch
):
    digits = load_source("digits", Path())
    known = list(run_study(params, params.gap, digits, tmp_path))
    (lock,) = tmp_path.glob("checkpoints/vit-n500-1-*.lock")
    held = FileLock(lock)
    monkeypatch.setattr("zoo.experiments.gap.time.sleep", lambda _: held.release())
    with held:
        found = list(run_study(params, params.gap, digits, tmp_path))
    last = known.pop(1)
    assert (last.model, last.seed) == ("vit", 1)
    assert found == [*known, last]


def test_a_subset_that_is_trained_on_later_is_drawn_then(params, tmp_path):
    params.subsets["n60"] = 60
    digits = load_source("digits", Path())
    for subset in ("n500", "n60"):
        study = dataclasses.replace(params.study, models=["vit"], subsets=[subset], seeds=[0])
        gap = dataclasses.replace(
            params.gap, references=["vit"], tuned={}, untuned=["vit"], tuning_subset=subset
        )
        compare = dataclasses.replace(params.compare, pairs=[])
        asked = dataclasses.replace(params, study=study, gap=gap, compare=compare)
        (trained,) = run_study(asked, gap, digits, tmp_path)
        assert trained.images == params.subsets[subset]


def test_a_pupil_learns_from_the_cnn_of_its_seed_and_again_where_that_one_changes(
    params_file, tmp_path, monkeypatch
):
    content = yaml.safe_load(params_file.read_text())
    pupil = content["models"]["vit"] | {"teacher": "models/cnn-{subset}-{seed}"}
    content["models"]["vit-guided"] = pupil
    content["study"] |= {"models": ["vit", "cnn", "vit-guided"], "seeds": [1]}
    content["gap"] |= {"tuned": {"vit": ["vit-guided"], "cnn": []}}
    monkeypatch.chdir(tmp_path)
    known = []
    for decay in (0.0, 0.1):
        content["models"]["cnn"]["train"] = {"weight_decay": decay}
        Path("params.yaml").write_text(yaml.safe_dump(content))
        params = load_params(Path("params.yaml"))
        assert len(list(run_study(params, params.gap, load_source("digits", Path()), Path()))) == 3
        teacher = load_model(Path("models/cnn-n500-1")).digest
        lineage = load_model(Path("models/vit-guided-n500-1")).spec.lineage
        assert lineage == {"teacher": "models/cnn-n500-1", "teacher_sha256": teacher}
        known.append(teacher)
    assert known[0] != known[1]


@pytest.mark.slow
def test_processes_share_a_study_and_one_that_is_killed_leaves_its_training_to_another(
    params_file, tmp_path
):
    content = yaml.safe_load(params_file.read_text())
    guided = content["models"]["vit"] | {"teacher": "models/cnn-{subset}-{seed}"}
    content["models"]["vit-guided"] = guided
    content["study"]["models"] = ["cnn", "vit", "vit-guided"]
    content["gap"]["tuned"] = {"vit": ["vit-guided"], "cnn": []}
    content["train"] |= {"steps": 60, "validate_steps": 60, "threads": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))

    def begin(name):
        child = os.fork()
        if not child:
            said = [str(tmp_path / name)] * 2
            end(
                lambda: do(
                    0, 1, str(tmp_path), ["python", "-m", "pipelines.gap"], dict(os.environ), said
                )
            )
        return child

    victim = begin("victim")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("checkpoints/*.lock")) and time.monotonic() < deadline:
        time.sleep(0.05)
    both = [begin("first"), begin("second")]
    os.kill(victim, signal.SIGKILL)
    assert [os.waitpid(child, 0)[1] for child in (victim, *both)] == [signal.SIGKILL, 0, 0]
    told = [
        {line.split(":")[0]: line for line in (tmp_path / name).read_text().splitlines()}
        for name in ("first", "second")
    ]
    # Each ends with all six; what one has trained, the other reads, its seconds included.
    assert told[0] == told[1]
    assert len(told[0]) == 6
    table = (tmp_path / "summary" / "gap.md").read_text()
    assert re.findall(r"^\| 40 \| (\S+) \| 2 \|", table, re.MULTILINE) == content["study"]["models"]


@pytest.mark.slow
def test_the_fair_study_runs_and_has_published_numbers_beside(tmp_path):
    content = yaml.safe_load((STUDY.parent / "fair.yaml").read_text())
    content["data"] |= {"source": "digits", "image_size": 16}
    content["subsets"] = dict.fromkeys(content["subsets"], 40)
    for entry in content["models"].values():
        small = {"embed_dim": 16, "depth": 2} if entry["arch"] == "vit" else {"channels": [8] * 4}
        entry["kwargs"] = entry.get("kwargs", {}) | small
        entry["train"] = entry.get("train", {}) | {"threads": 1}
    content["models"]["vit-tuned"]["train"] |= {"warmup_steps": 1}
    content["models"]["resnet18-tuned"]["train"] |= {"warmup_steps": 1}
    content["train"] |= {"steps": 2, "validate_steps": 1}
    content["study"] |= {"subsets": ["n5000"], "seeds": [0, 1]}
    content["gap"] |= {"test_images": 50}
    content["compare"] |= {"pairs": [["vit-n5000", "resnet18-n5000"]]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    params = load_params(tmp_path / "params.yaml")
    runs = list(run_study(params, params.gap, load_source("digits", Path()), tmp_path))
    rates = {model: {run.learning_rate for run in runs if run.model == model}
             for model in params.study.models}  # fmt: skip
    assert (
        rates["vit"] == rates["resnet18"] == {0.0001}
    )  # the first paper's, of which none is tuned
    assert all(rates[f"{model}-tuned"] < {0.0003, 0.001, 0.003} for model in ("vit", "resnet18"))
    tried = {path.stem for path in tmp_path.glob("tuning/*/metrics/*.json")}
    assert tried == {"vit-tuned-n5000-100", "resnet18-tuned-n5000-100"}
    written = as_markdown(summarise(runs, params.gap), params.gap)
    assert len(re.findall(r"^\| 40 \| \S+ \| 2 \|", written, re.MULTILINE)) == 4
    assert "| 500 | CNN, tuned | 0.582 | arXiv 2108.13122 |" in written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "vitt"}, r"gap entry \(not in study.models\) 'vitt'; did you mean 'vit'"),
        ({"tuned": {"vit": []}}, "gap.tuned: 'cnn' is not in it; add it there, or to gap.untuned"),
        ({"tuning_seed": 0}, "gap.tuning_seed: expected none of study.seeds, got 0"),
        ({"tuning_subset": "n50"}, "unknown gap.tuning_subset 'n50'"),
        ({"untuned": ["vitt"]}, r"gap entry \(not in study.models\) 'vitt'"),
        (
            {"published": [{"model": "m", "images": 1, "accuracy": 58, "source": "s"}]},
            "gap.published.accuracy: expected 0 to 1, got 58",
        ),
        ({"learning_rates": []}, r"gap.learning_rates: expected one or more \(gap.tuned names"),
        ({"learning_rates": [0]}, "gap.learning_rates.*: expected above 0"),
    ],
)
def test_a_gap_that_the_study_does_not_have_is_named(tmp_path, changes, message):
    content = yaml.safe_load(STUDY.read_text())
    content["gap"] |= changes
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message):
        load_params(tmp_path / "params.yaml")
