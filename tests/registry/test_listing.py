import pytest

from zoo.registry import lookup
from zoo.registry.listing import aliases_of, list_versions
from zoo.registry.register import register
from zoo.registry.resolve import resolve


def test_an_empty_registry_lists_nothing(store):
    assert list_versions(store) == []


def test_every_version_is_a_row_with_its_aliases(store, make_folder):
    register(store, make_folder(0, validation=0.5))
    register(store, make_folder(1, validation=0.6))
    register(store, make_folder(0, name="mixer-full", arch="vit"))
    store.client.set_registered_model_alias("vit-small", "paper", "2")
    rows = list_versions(store)
    assert [(row.name, row.version, row.aliases) for row in rows] == [
        ("mixer-full", 1, ("best",)),
        ("vit-small", 1, ()),
        ("vit-small", 2, ("best", "paper")),
    ]
    row = rows[2]
    assert (row.arch, row.source, row.subset, row.seed) == ("vit", "digits", "small", 1)
    assert (row.test_accuracy, row.validation_accuracy) == (0.44, 0.6)
    assert row.parameters == 4451
    assert len(row.digest) == 64
    assert row.created.year >= 2024


def test_versions_of_other_flavors_are_left_out(store, make_folder):
    register(store, make_folder())
    store.client.create_registered_model("forest")
    store.client.create_model_version("forest", "file:///nowhere")
    assert [row.name for row in list_versions(store)] == ["vit-small"]


def test_all_pages_are_read(store, make_folder, monkeypatch):
    monkeypatch.setattr(lookup, "PAGE", 2)
    for seed in range(5):
        register(store, make_folder(seed))
    assert [row.version for row in list_versions(store)] == [1, 2, 3, 4, 5]


def test_the_number_of_requests_does_not_grow_with_the_versions(store, make_folder, monkeypatch):
    for seed in range(3):
        register(store, make_folder(seed))
    asked = []
    for name in ("search_model_versions", "search_registered_models"):
        real = getattr(store.client, name)
        monkeypatch.setattr(
            store.client, name, lambda *a, _real=real, **k: asked.append(1) or _real(*a, **k)
        )
    list_versions(store)
    assert len(asked) == 2


@pytest.mark.parametrize("value", ["good", "nan", "inf", ""])
def test_a_tag_that_someone_spoiled_reads_as_not_recorded(store, make_folder, value):
    register(store, make_folder())
    store.client.set_model_version_tag("vit-small", "1", "zoo.test_accuracy", value)
    assert list_versions(store)[0].test_accuracy is None


def test_tags_that_people_set_are_told_from_zoo_s_own(store, make_folder):
    register(store, make_folder())
    store.client.set_model_version_tag("vit-small", "1", "stage", "review")
    assert list_versions(store)[0].tags == {"stage": "review"}


def test_the_aliases_of_a_version_are_its_own(store, make_folder):
    folders = [make_folder(seed, validation=0.5 + seed / 10) for seed in range(2)]
    for folder in folders:
        register(store, folder)
    store.client.set_registered_model_alias("vit-small", "old", "1")
    asked = ("vit-small/1", "vit-small/2", str(folders[0]))
    assert [aliases_of(store, resolve(store, each)) for each in asked] == [["old"], ["best"], []]
