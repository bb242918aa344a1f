"""Nothing is unpickled, and what others named stays text wherever it is shown."""

import dataclasses
import io
import json
import pickle
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from zoo.errors import UserError
from zoo.models.spec import ModelSpec
from zoo.registry.card import model_card, name_card

EVIL = "<script>alert(1)</script>"
CLASSES = [EVIL, "$", "a$b$"]
TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture
def no_pickle(monkeypatch):
    """Let every way of unpickling raise."""

    def refuse(*_arguments, **_named):
        raise AssertionError("unpickled")

    import _pickle

    import cloudpickle
    import joblib

    class Refuse:
        __init__ = refuse

    for place in (pickle, _pickle, torch, torch.serialization, cloudpickle, joblib):
        for name in ("load", "loads"):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, refuse)
    for place in (pickle, _pickle):
        monkeypatch.setattr(place, "Unpickler", Refuse)
    monkeypatch.setattr(pickle, "_Unpickler", Refuse)


def test_the_raisers_raise(no_pickle):
    with pytest.raises(AssertionError, match="unpickled"):
        pickle.loads(pickle.dumps(1))
    with pytest.raises(AssertionError, match="unpickled"):
        torch.load(io.BytesIO())
    with pytest.raises(AssertionError, match="unpickled"):
        pickle.Unpickler(io.BytesIO())


def test_load_compare_and_predict_unpickle_nothing(
    tmp_path, monkeypatch, make_model, digits_folder, no_pickle
):
    import mlflow

    import zoo
    from zoo.config import Settings
    from zoo.data.subsets import load_subset
    from zoo.models.files import save_model
    from zoo.registry.compare import compare_registered
    from zoo.registry.register import register
    from zoo.registry.resolve import load, resolve
    from zoo.registry.store import open_store

    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    store, test = open_store(tmp_path), load_subset(digits_folder / "test")
    folders = []
    for seed in (0, 1):
        model = make_model("vit", "vit-small", seed=seed, test_digest=test.info.digest)
        folders.append(tmp_path / f"vit-small-{seed}")
        save_model(folders[-1], model.module, model.spec)
    for folder in folders:
        register(store, folder, test_folder=digits_folder / "test")

    images = np.array(test.images[:3])
    logits = load("vit-small/1", store=store)(images)
    assert torch.equal(logits, zoo.load(str(folders[0]))(images))
    served = mlflow.pyfunc.load_model(resolve(store, "vit-small/1").artifacts)
    np.testing.assert_allclose(served.predict(images), logits.softmax(1), rtol=1e-5)
    models = [resolve(store, f"vit-small/{version}") for version in (1, 2)]
    done = compare_registered(
        store, models, tmp_path / "report", count=20, only=["accuracy", "cka", "probes"],
        settings=Settings(references=False),
    )  # fmt: skip
    assert (done.folder / "report.html").is_file()
    retry_on_conflict = compare_registered(
        store, models, tmp_path / "copy", count=20, only=["accuracy", "cka", "probes"],
        settings=Settings(references=False),
    )  # fmt: skip
    assert retry_on_conflict.found


class Page(HTMLParser):
    """The tags of a page, its JSON data, and its text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open = ("", {})
        self.viewer_data: list = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open = (tag, dict(attrs))
        self.tags.append(self.open)

    def handle_endtag(self, tag):
        self.open = ("", {})

    def handle_data(self, data):
        tag, attrs = self.open
        if tag == "script" and attrs.get("type") == "application/json":
            self.viewer_data.append(json.loads(data))
        elif tag not in {"script", "style"}:
            self.text += data


@pytest.fixture(scope="module")
def evil_report(tmp_path_factory):
    """A comparison whose every name, as it may come from a registry, is a script."""
    from zoo.analyses.engine import compare_models
    from zoo.comparison import Comparison
    from zoo.config import Settings
    from zoo.models.build import build
    from zoo.models.files import describe_module
    from zoo.study.identity import provenance
    from zoo.study.prepare import prepare_study

    models = []
    for seed, name in enumerate((EVIL, f'"><img src=x onerror=alert(1)>{EVIL}$\\frac{{a$_^')):
        torch.manual_seed(seed)
        models.append(
            describe_module(
                build("vit", classes=3, image_size=16, **TINY), name=name, image_size=16,
                arch=EVIL, source=EVIL, subset=EVIL, subset_count=3, class_names=CLASSES,
                kwargs={EVIL: EVIL}, training={EVIL: EVIL}, environment={EVIL: EVIL},
            )
        )  # fmt: skip
    random = np.random.RandomState(0)
    results = compare_models(
        models, random.randint(0, 256, (12, 16, 16, 3)).astype(np.uint8), np.arange(12) % 3,
        class_names=CLASSES, only=["accuracy", "cka", "attention-maps"],
        settings=Settings(batch_size=6, references=False, shown_images=2),
    )  # fmt: skip
    images = random.randint(0, 256, (12, 16, 16, 3)).astype(np.uint8)
    study = prepare_study(models, images, None, CLASSES, (), Settings(references=False), "cpu")
    known = provenance(
        models, study, digest=EVIL, images_digest=EVIL, source=EVIL, command=f"zoo compare {EVIL}",
    )  # fmt: skip
    comparison = Comparison(dataclasses.replace(results, provenance=known))
    folder = tmp_path_factory.mktemp("evil") / "report"
    comparison.save(folder)
    return folder


def test_every_name_is_text_in_the_report(evil_report):
    raw = (evil_report / "report.html").read_text()
    page = Page(raw)
    assert "<script>alert" not in raw
    assert raw.count("</script") == raw.count("<script")
    # The viewers' data and the page's own script, and nothing that a name brought.
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert [attrs for attrs in scripts if attrs.get("type") != "application/json"] == [{}]
    assert EVIL in page.text
    assert EVIL in json.dumps(page.viewer_data)
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    images = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert all(source.startswith("data:image/") for source in images)
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert not any(link.startswith("javascript:") for link in links)


def test_every_name_is_text_in_the_figures_and_no_path(evil_report):
    drawings = list(evil_report.glob("figures/*.svg"))
    assert drawings
    for path in drawings:
        assert "<script" not in path.read_text()
    for path in evil_report.rglob("*"):
        assert not set(path.name) & set("<>/$\"'\\ "), path


def test_every_name_is_text_on_the_card():
    spec = ModelSpec(
        name="vit", arch=EVIL, image_size=16, class_names=[EVIL], mean=[0.5] * 3, std=[0.5] * 3,
        kwargs={EVIL: EVIL}, source=f"{EVIL}|`[a](javascript:b)`", subset=EVIL, subset_count=1,
        environment={EVIL: EVIL, "torch": "a\n# b"},
    )  # fmt: skip
    for card in (model_card(spec, EVIL), name_card(spec, spec.name)):
        assert "<" not in card
        assert "&lt;script&gt;" in card
        # No markup that a name brought: what Markdown would read is escaped.
        assert not re.search(r"(?<!\\)\[a(?<!\\)\]", card)
        assert "\n# b" not in card


def test_what_others_keep_beside_a_report_is_never_removed(
    tmp_path, monkeypatch, make_model, digits_folder, capsys
):
    from zoo.cli import main
    from zoo.models.files import save_model
    from zoo.registry.compare import compare_registered
    from zoo.registry.resolve import resolve
    from zoo.registry.store import open_store

    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    folders = []
    for seed in (0, 1):
        model = make_model("vit", f"vit-{seed}", seed=seed)
        folders.append(tmp_path / f"vit-{seed}")
        save_model(folders[-1], model.module, model.spec)
    chapter = tmp_path / "thesis" / "chapters" / "one.tex"
    chapter.parent.mkdir(parents=True)
    chapter.write_text("years of work")
    (tmp_path / "thesis" / "report.json").write_text("{}")
    with pytest.raises(UserError, match="it contains chapters"):
        compare_registered(
            open_store(tmp_path), [resolve(None, str(folder)) for folder in folders],
            tmp_path / "thesis", data=digits_folder / "test", count=20, only=["accuracy"],
        )  # fmt: skip
    arguments = ["transfer", str(folders[0]), "--source", "digits", "--out", "thesis"]
    monkeypatch.setattr("sys.argv", ["zoo", *arguments, "--epochs", "1", "--subset", "20"])
    with pytest.raises(SystemExit):
        main()
    assert "it contains chapters" in capsys.readouterr().err
    assert chapter.read_text() == "years of work"


def test_a_transfer_does_not_replace_a_comparison(tmp_path, monkeypatch, make_model, capsys):
    from zoo.cli import main
    from zoo.models.files import save_model

    monkeypatch.chdir(tmp_path)
    model = make_model("vit", "vit")
    save_model(tmp_path / "vit", model.module, model.spec)
    (tmp_path / "out").mkdir()
    for name in ("report.json", "report.html"):
        (tmp_path / "out" / name).write_text("{}")
    monkeypatch.setattr(
        "sys.argv", ["zoo", "transfer", "./vit", "--source", "digits", "--out", "out"]
    )
    with pytest.raises(SystemExit):
        main()
    assert "it contains report.html" in capsys.readouterr().err
    assert len(list((tmp_path / "out").iterdir())) == 2
