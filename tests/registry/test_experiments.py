"""What is tried stands beside the study's models and changes nothing that a name means."""

import dataclasses
import shutil

import pytest

from tests.registry.test_removal import PARAMS
from zoo.config import load_params
from zoo.errors import UserError
from zoo.models.spec import model_digest
from zoo.registry.annotations import set_alias
from zoo.registry.compare import unique_names
from zoo.registry.experiments import note_experiment
from zoo.registry.listing import list_versions, newer_versions
from zoo.registry.lookup import find_by_digest
from zoo.registry.register import register, register_study
from zoo.registry.removal import plan_removal
from zoo.registry.resolve import resolve
from zoo.registry.seeds import other_seeds


@pytest.fixture
def study(store, root, make_folder):
    """Train and register a study of two seeds: `study(accuracy, experiment="brave-eel")`."""
    (root / "params.yaml").write_text(PARAMS)

    def run(validation, **known):
        for seed in range(2):
            folder = root / "models" / f"vit-small-{seed}"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(make_folder(seed, validation=validation), folder)
        return register_study(store, load_params(root / "params.yaml"), root / "models", **known)

    return run


def meaning(store):
    model = store.client.get_registered_model("vit-small")
    aliases = {alias: int(number) for alias, number in model.aliases.items()}
    return resolve(store, "vit-small").version, aliases


def test_a_name_means_the_studys_first_seed(store, study):
    assert [(entry.version, entry.experiment) for entry in study(0.5)] == [(1, ""), (2, "")]
    assert meaning(store) == (1, {"current": 1, "best": 1})


def test_an_experiment_is_registered_and_moves_nothing(store, study):
    study(0.5)
    tried = study(0.9, experiment="brave-eel")
    assert [(entry.version, entry.experiment) for entry in tried] == [
        (3, "brave-eel"),
        (4, "brave-eel"),
    ]
    assert meaning(store) == (1, {"current": 1, "best": 1})
    assert [row.experiment for row in list_versions(store)] == ["", "", "brave-eel", "brave-eel"]
    assert [row.tags for row in list_versions(store)] == [{}] * 4
    assert newer_versions(store, resolve(store, "vit-small")) == {
        2: "", 3: "brave-eel", 4: "brave-eel",
    }  # fmt: skip
    assert resolve(store, "vit-small/latest").version == 4


def test_registering_an_experiments_models_again_leaves_it_one_until_it_is_kept(store, study):
    study(0.5)
    study(0.9, experiment="brave-eel")
    assert [entry.experiment for entry in study(0.9)] == ["brave-eel"] * 2
    assert meaning(store) == (1, {"current": 1, "best": 1})
    kept = study(0.9, keep=True)
    assert [(entry.version, entry.experiment) for entry in kept] == [(3, ""), (4, "")]
    assert meaning(store) == (3, {"current": 3, "best": 3})


def test_names_mean_again_what_they_meant_when_the_models_are_back(store, study):
    assert [entry.moved for entry in study(0.5)] == [False, False]
    assert [entry.moved for entry in study(0.4, keep=True)] == [True, False]
    assert meaning(store) == (3, {"current": 3, "best": 1})
    assert [entry.moved for entry in study(0.5)] == [True, False]
    assert [entry.moved for entry in study(0.5)] == [False, False]
    assert meaning(store) == (1, {"current": 1, "best": 1})


def test_the_study_does_not_become_an_experiment_of_the_same_weights(store, study):
    study(0.5)
    assert [entry.experiment for entry in study(0.5, experiment="brave-eel")] == ["", ""]


def test_without_a_current_version_a_name_means_the_latest_that_is_no_experiment(
    store, make_folder
):
    register(store, make_folder(0, metrics={}))
    register(store, make_folder(1, metrics={}), experiment="brave-eel")
    assert meaning(store) == (1, {})
    register(store, make_folder(2, metrics={}))
    assert meaning(store) == (3, {})
    set_alias(store, "vit-small", "current", "1")
    assert meaning(store) == (1, {"current": 1})


def test_a_name_of_experiments_alone_says_how_to_ask_for_one(store, make_folder):
    register(store, make_folder(), experiment="brave-eel")
    with pytest.raises(UserError, match=r"has only experiments.*such as vit-small/1"):
        resolve(store, "vit-small")
    assert plan_removal(store, "vit-small", whole=True).versions == (1,)


def test_seeds_of_an_experiment_are_no_seeds_of_the_study(store, study):
    study(0.5)
    study(0.9, experiment="brave-eel")

    def second_seed(reference):
        model = dataclasses.replace(resolve(store, reference), reference="vit-small")
        return [sibling.version for _, sibling in other_seeds(store, [model])]

    assert second_seed("vit-small") == [2]
    assert second_seed("vit-small/3") == [4]


def test_two_studies_on_one_server_keep_apart(store, root, study):
    study(0.5)
    before = meaning(store)
    (root / "params.yaml").write_text(
        PARAMS.replace("models: [vit]", "name: flowers, models: [vit]")
    )
    flowers = dataclasses.replace(store)  # as another process would open it
    params = load_params(root / "params.yaml")
    done = register_study(flowers, params, root / "models")
    assert [(entry.name, entry.version) for entry in done] == [
        ("flowers.vit-small", 1),
        ("flowers.vit-small", 2),
    ]
    assert meaning(store) == before
    found = resolve(flowers, "vit-small")
    assert (found.name, found.version, found.label) == ("flowers.vit-small", 1, "vit-small")
    assert resolve(flowers, "vit-small/2").name == "flowers.vit-small"
    # In the study's folder reports call its models as the study does, and others in full.
    assert unique_names(flowers, [found]) == ["vit-small"]
    assert unique_names(store, [found]) == ["flowers.vit-small"]
    # An address is exact: it means the model of the study without a name.
    assert resolve(flowers, "models:/vit-small/2").name == "vit-small"
    assert resolve(flowers, found.uri).name == "flowers.vit-small"
    assert resolve(store, "flowers.vit-small/2").digest == resolve(flowers, "vit-small/2").digest
    assert find_by_digest(flowers, "vit-small", found.digest).name == "flowers.vit-small"
    with pytest.raises(UserError, match=r"flowers\.vit-small has no version 9"):
        resolve(flowers, "vit-small/9")


def test_names_of_models_that_are_hard_to_tell_apart_are_registered_as_they_are(store, make_folder):
    names = ["a__b-small", "a-b__small", "A__b-small", "a+b-s.1", "x" * 200]
    for name in names:
        register(store, make_folder(name=name))
    assert sorted({row.name for row in list_versions(store)}) == sorted(names)
    assert [resolve(store, name).name for name in names] == names


def test_what_an_experiment_trained_with_the_server_away_is_still_one_later(
    store, study, root, make_folder
):
    study(0.5)
    for seed in range(2):  # as the stage that trained it, whose experiment then failed
        note_experiment(root, model_digest(make_folder(seed, validation=0.9)), "brave-eel")
    assert [entry.experiment for entry in study(0.9)] == ["brave-eel"] * 2
    assert meaning(store) == (1, {"current": 1, "best": 1})
    assert [entry.experiment for entry in study(0.9, keep=True)] == ["", ""]
    store.client.delete_registered_model("vit-small")
    assert [entry.experiment for entry in study(0.9)] == ["", ""]
