import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zoo.errors import UserError
from zoo.models.factories import check_trusted
from zoo.models.imported import ImportOptions
from zoo.registry.artifacts import local_folder
from zoo.registry.card import CARD
from zoo.registry.listing import list_versions
from zoo.registry.register import import_registered, register
from zoo.registry.resolve import load, pull, resolve
from zoo.registry.runs import search_runs
from zoo.registry.store import TEST_IMAGES, TRAIN
from zoo.registry.verify import verify

CODE = """
from torch import nn
def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
"""


@pytest.fixture(scope="module")
def vit():
    import timm

    return timm.create_model("test_vit", img_size=32, num_classes=3).eval()


@pytest.fixture
def given(root, vit, monkeypatch):
    """Weights in a project that is the working folder."""
    monkeypatch.chdir(root)
    save_file(vit.state_dict(), root / "vit.safetensors")
    return ImportOptions(
        weights=root / "vit.safetensors", image_size=32, class_names=["a", "b", "c"]
    )


@pytest.fixture
def factory(root, given, monkeypatch):
    monkeypatch.delenv("ZOO_TRUST", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (root / "zoo_mine.py").write_text(CODE)
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).state_dict(), root / "mine.pt")
    yield ImportOptions(weights=root / "mine.pt", image_size=4)
    sys.modules.pop("zoo_mine", None)


def test_an_imported_model_is_a_version_like_any_other(store, given, vit):
    done, notes = import_registered(store, "timm:test_vit.r160_in1k", "vit", given)
    assert (done.name, done.version, done.created, notes) == ("vit", 1, True, ())
    loaded, x = load("vit", store=store), torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded.module(x), vit(x))
    assert loaded.digest == done.digest


def test_the_seed_of_an_imported_model_is_not_known(store, given):
    import_registered(store, "timm:test_vit", "vit", given)
    (row,) = list_versions(store)
    assert row.seed is None
    assert load("vit", store=store).spec.known_seed is None
    assert not verify(store).findings


def test_the_same_import_again_is_the_same_version(store, given):
    first, _ = import_registered(store, "timm:test_vit", "vit", given)
    again, _ = import_registered(store, "timm:test_vit", "vit", given)
    assert (again.version, again.digest, again.created) == (
        1,
        first.digest,
        False,
    )


def test_version_and_run_say_where_the_weights_are_from(store, given):
    import_registered(store, "timm:test_vit.r160_in1k", "vit", given)
    version = store.client.get_model_version("vit", "1")
    for tags in (version.tags, store.client.get_run(version.run_id).data.tags):
        assert tags["zoo.origin"] == "timm:test_vit.r160_in1k"
        assert tags["zoo.licence"] == "apache-2.0"
        assert tags["zoo.url"] == "https://huggingface.co/timm/test_vit.r160_in1k"
    assert "apache-2.0" in version.description


def test_importing_ones_own_factory_is_trust_in_it_here_alone(store, factory, root, monkeypatch):
    import_registered(store, "zoo_mine:make", "mine", factory)
    check_trusted("zoo_mine:make", {})
    assert load("mine", store=store).module[1].out_features == 3
    (root / "other").mkdir()
    monkeypatch.chdir(root / "other")
    with pytest.raises(UserError, match="zoo_mine:make is code that zoo would have to run"):
        load("mine", store=store)
    found = verify(store).findings  # whole, and no code was run to say so
    assert [(finding.kind, finding.what) for finding in found] == [("untrusted", "mine/1")]
    assert "ZOO_TRUST=zoo_mine:make" in found[0].why
    weights = local_folder(resolve(store, "mine").artifacts) / "data" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert [finding.kind for finding in verify(store).findings] == ["damaged"]


LOADER = """
import torch
from torch import nn
class Never(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(True)
class Dropping(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x)
def load():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), PART, nn.Flatten(), nn.Linear(16, 3))
"""


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("Never(4)", ["mine answers an image differently beside other images"]),
        ("Dropping()", ["mine is not deterministic"]),
        ("nn.BatchNorm2d(4)", []),
    ],
)
def test_what_else_than_the_image_answers_depend_on_is_noted(store, factory, root, part, said):
    (root / "zoo_mine.py").write_text(LOADER.replace("PART", part))
    given = ImportOptions(image_size=4)
    _, notes = import_registered(store, "zoo_mine:load", "mine", given)
    assert [note.partition(",")[0].partition(":")[0] for note in notes if "mine " in note] == said
    weights = load("mine", store=store).module.state_dict()
    if "1.running_mean" in weights:  # those that the loader gave
        assert not weights["1.running_mean"].any()


def test_a_wrong_name_is_refused_before_anything_else(store, factory):
    with pytest.raises(UserError, match="name 'a/b'"):
        import_registered(store, "zoo_mine:make", "a/b", factory)
    with pytest.raises(UserError, match="have not trusted it"):
        check_trusted("zoo_mine:make", {})


def test_a_factory_whose_import_failed_is_not_trusted(store, factory, root):
    torch.save(nn.Linear(2, 2).state_dict(), root / "mine.pt")
    with pytest.raises(UserError, match="weights do not fit"):
        import_registered(store, "zoo_mine:make", "mine", factory)
    with pytest.raises(UserError, match="have not trusted it"):
        check_trusted("zoo_mine:make", {})


def test_a_pulled_model_loads_without_mlflow(store, given, vit, root, monkeypatch):
    import_registered(store, "timm:test_vit", "vit", given)
    pull(resolve(store, "vit"), root / "out", store=store)
    assert sorted(p.name for p in (root / "out").iterdir()) == [
        CARD, "model.safetensors", "spec.json",
    ]  # fmt: skip
    assert "timm:test\\_vit" in (root / "out" / CARD).read_text()
    for name in ("mlflow", "zoo.registry.store"):
        monkeypatch.setitem(sys.modules, name, None)
    loaded, x = load(str(root / "out")), torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded.module(x), vit(x))


def test_pulling_replaces_a_model_and_nothing_else(store, make_folder, root):
    model = resolve(store, str(make_folder()))
    pull(model, root / "out", store=store)
    pull(resolve(store, str(make_folder(1))), root / "out", store=store)
    assert resolve(None, str(root / "out")).digest != model.digest
    (root / "photos").mkdir()
    (root / "photos" / "cat.jpg").write_text("")
    with pytest.raises(UserError, match="photos, which zoo did not write: it contains cat"):
        pull(model, root / "photos", store=store)
    assert (root / "photos" / "cat.jpg").exists()
    with pytest.raises(UserError, match=r"lies in .* already"):
        pull(model, model.folder, store=store)


def test_a_folder_that_does_not_load_is_not_pulled(store, make_folder, root):
    folder = make_folder()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="is damaged"):
        pull(resolve(store, str(folder)), root / "out", store=store)
    assert not (root / "out").exists()


@pytest.mark.parametrize("stranger", ["notes.md", "epochs.csv"])
def test_pulling_over_a_model_keeps_what_lies_beside_it(store, make_folder, root, stranger):
    model = resolve(store, str(make_folder()))
    pull(model, root / "out", store=store)
    (root / "out" / stranger).write_text("mine")
    with pytest.raises(UserError, match=f"which zoo did not write: it contains {stranger}"):
        pull(model, root / "out", store=store)
    assert (root / "out" / stranger).read_text() == "mine"


def test_a_folder_that_does_not_load_is_refused_before_anything_is_made(
    store, make_folder, make_split, tmp_path
):
    whole, split = make_folder(), make_split("split", 12)
    cut = shutil.copytree(whole, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    other = make_folder(1, validation=0.7, test_digest=split.digest)
    spec = json.loads((other / "spec.json").read_text())
    (other / "spec.json").write_text(json.dumps(spec | {"class_names": ["a", "b"]}))
    for folder, message in ((cut, "is damaged"), (other, "does not fit")):
        with pytest.raises(UserError, match=message):
            register(store, folder, test_folder=tmp_path / "split")
    assert store.client.search_registered_models() == []
    assert [search_runs(store, name) for name in (TRAIN, TEST_IMAGES)] == [[], []]
    assert register(store, whole).version == 1
