"""Removing says beforehand what would dangle, and removes nothing else."""

import shutil

import pytest

from zoo.errors import UserError
from zoo.registry.annotations import describe, promote, tag
from zoo.registry.artifacts import local_folder
from zoo.registry.comparisons import log_comparison
from zoo.registry.listing import list_versions
from zoo.registry.register import register
from zoo.registry.removal import plan_removal, remove
from zoo.registry.resolve import resolve
from zoo.registry.runs import search_runs
from zoo.registry.store import TRAIN

PARAMS = """
data: {source: digits, root: data, image_size: 16, validation: 0.1, seed: 0}
subsets: {small: 40}
models: {vit: {arch: vit}}
study: {models: [vit], subsets: [small], seeds: [0, 1]}
train: {epochs: 1, batch_size: 4, learning_rate: 0.1}
compare: {pairs: [], images: 4, batch_size: 4}
"""


@pytest.fixture
def two(store, make_folder):
    for seed in range(2):
        register(store, make_folder(seed, validation=0.5 + seed / 10))
    return store


def there(store):
    return [f"{row.name}/{row.version}" for row in list_versions(store)]


def test_an_alias_moves_and_says_where_it_was(two):
    assert promote(two, "vit-small/1", "paper")[1] is None
    version, before = promote(two, "vit-small", "paper")
    assert (int(version.version), before) == (2, 1)
    assert two.client.get_registered_model("vit-small").aliases["paper"] in {"2", 2}


@pytest.mark.parametrize("alias", ["latest", "v3", "V3", "a b", "a/b", "", "<b>"])
def test_an_alias_is_checked_before_anything_is_sent(alias):
    with pytest.raises(UserError, match="expected letters, digits, _ and -"):
        promote(None, "vit-small", alias)  # no store, which nothing may ask


def test_tags_are_set_and_removed_and_found(two):
    assert tag(two, "vit-small/1", {"stage": "in review", "a.b": "1"}) == {
        "stage": "in review",
        "a.b": "1",
    }
    assert list_versions(two)[0].tags == {"stage": "in review", "a.b": "1"}
    assert tag(two, "vit-small/1", {"a.b": "2"}, ["stage"]) == {"a.b": "2"}
    with pytest.raises(UserError, match=r"no tag 'zoo.sha256' to remove; it has: a.b"):
        tag(two, "vit-small/1", {}, ["zoo.sha256"])


@pytest.mark.parametrize(
    ("key", "value"),
    [("zoo.arch", "x"), ("mlflow.x", "x"), ("accuracy", "1"), ("a b", "x"), ("a", ""), ("", "x"),
     ("a", "x" * 5001)],
)  # fmt: skip
def test_all_tags_are_checked_before_one_is_sent(key, value):
    with pytest.raises(UserError, match="tag"):
        tag(None, "vit-small/1", {"good": "1", key: value})


def test_a_description_is_shown_and_set(two):
    assert "trained on" in describe(two, "vit-small/1")
    assert describe(two, "vit-small/1", "Mine.") == describe(two, "vit-small/1") == "Mine."
    with pytest.raises(UserError, match="at most 5,000 characters, got 5,001"):
        describe(two, "vit-small/1", "x" * 5001)


@pytest.mark.parametrize("reference", ["./folder", "timm:vit_tiny", "models:/m-" + "0" * 32])
def test_only_versions_have_aliases_and_tags(reference):
    with pytest.raises(UserError, match="expected a registered version"):
        promote(None, reference, "a")


def test_a_plan_names_all_that_would_dangle(two, root, make_folder):
    model = resolve(two, "vit-small/1")
    promote(two, "vit-small/1", "paper")
    (root / "report").mkdir()
    (root / "report" / "report.json").write_text('{"digest": "c"}')
    other = resolve(two, "vit-small/2")
    log_comparison(two, root / "report", {"digest": "c"}, [model, other])
    log_comparison(two, root / "report", {"digest": "d"}, [other])
    training = {"transferred_from_digest": model.digest}
    register(two, make_folder(3, name="child", training=training))
    register(two, make_folder(4, name="heir"))
    tag(two, "heir", {"teacher": "vit-small/1"})
    (root / "params.yaml").write_text(PARAMS)
    shutil.copytree(make_folder(0, validation=0.5), root / "models" / "vit-small-0")
    shutil.copytree(make_folder(9), root / "models" / "vit-small-1")
    before = there(two)
    plan = plan_removal(two, "vit-small/1")
    assert [kind for kind, _ in plan.dangling] == [
        "alias", "comparison", "version", "version", "DVC output",
    ]  # fmt: skip
    named = [what for _, what in plan.dangling]
    assert named[0] == "vit-small@paper"
    assert named[1].startswith("vit-small/1 vs vit-small/2: ")
    assert named[2:4] == ["child/1", "heir/1"]
    assert named[4].startswith("models/vit-small-0 (")
    assert there(two) == before


def test_removing_a_version_leaves_all_else(two, make_folder):
    folder = local_folder(resolve(two, "vit-small/1").artifacts)
    remove(two, plan_removal(two, "vit-small/1"))
    assert there(two) == ["vit-small/2"]
    assert len(search_runs(two, TRAIN)) == 2
    assert len(two.client.search_logged_models([two.experiment_id(TRAIN)])) == 2
    assert (folder / "data" / "model.safetensors").is_file()
    # So the same files registered again are a version again, of the same run.
    assert register(two, make_folder(0, validation=0.5)).created
    assert len(there(two)) == 2
    assert len(search_runs(two, TRAIN)) == 2


def test_a_whole_model_needs_to_be_asked_for(two, make_folder):
    register(two, make_folder(0, name="other"))
    with pytest.raises(UserError, match=r"name one version \(vit-small/2 is the latest\)"):
        plan_removal(two, "vit-small")
    with pytest.raises(UserError, match="leave out --all"):
        plan_removal(two, "vit-small/1", whole=True)
    plan = plan_removal(two, "vit-small", whole=True)
    assert plan.label == "vit-small with 2 versions"
    remove(two, plan)
    assert there(two) == ["other/1"]


def test_a_model_that_changed_since_is_not_removed(two, make_folder):
    plan = plan_removal(two, "vit-small", whole=True)
    register(two, make_folder(7))
    with pytest.raises(UserError, match="have changed: nothing is removed"):
        remove(two, plan)
    assert len(there(two)) == 3


def test_a_version_whose_digest_was_spoiled_can_be_removed(two):
    two.client.set_model_version_tag("vit-small", "1", "zoo.sha256", "spoiled")
    remove(two, plan_removal(two, "vit-small/1"))
    assert there(two) == ["vit-small/2"]
