import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

from zoo.registry.annotations import point_best, set_alias
from zoo.registry.register import register

TWICE = "UNIQUE constraint failed: registered_model_aliases.name, registered_model_aliases.alias"


@pytest.fixture
def vit(store, make_folder):
    """Two versions of vit-small in a store, the second better; `best` stands on it."""
    for seed, accuracy in enumerate((0.4, 0.5)):
        register(store, make_folder(seed, validation=accuracy))
    return store


def on(store, alias):
    return int(store.client.get_registered_model("vit-small").aliases[alias])


def refusing(store, monkeypatch, error, *, before=lambda alias: None, times=1):
    """Let the store refuse an alias a number of times, after `before`; return who asked."""
    put, asked = store.client.set_registered_model_alias, []

    def client_put(name, alias, version):
        asked.append((alias, version))
        if len(asked) <= times:
            before(alias)
            raise error
        put(name, alias, version)

    monkeypatch.setattr(store.client, "set_registered_model_alias", client_put)
    return asked


def test_an_alias_that_another_adds_in_the_same_moment_is_moved(vit, monkeypatch):
    put = vit.client.set_registered_model_alias
    asked = refusing(
        vit,
        monkeypatch,
        MlflowException(TWICE, BAD_REQUEST),
        before=lambda alias: put("vit-small", alias, "1"),
    )
    set_alias(vit, "vit-small", "paper", "2")
    assert on(vit, "paper") == 2
    assert asked == [("paper", "2")] * 2


def test_an_alias_refused_twice_is_told(vit, monkeypatch):
    asked = refusing(vit, monkeypatch, MlflowException("disk full", BAD_REQUEST), times=9)
    with pytest.raises(MlflowException, match="disk full"):
        set_alias(vit, "vit-small", "paper", "2")
    assert len(asked) == 2


def test_a_store_that_is_away_is_not_asked_twice(vit, monkeypatch):
    error = MlflowException("no answer", TEMPORARILY_UNAVAILABLE)
    asked = refusing(vit, monkeypatch, error, times=9)
    with pytest.raises(MlflowException, match="no answer"):
        set_alias(vit, "vit-small", "paper", "2")
    assert len(asked) == 1


def test_best_is_looked_at_again_after_a_slower_one_has_moved_it(store, make_folder, monkeypatch):
    register(store, make_folder(0, validation=0.4))
    store.client.delete_registered_model_alias("vit-small", "best")
    put = store.client.set_registered_model_alias

    def slow(name, alias, version):
        # While this one was about to point at version 1, another added a better version 2.
        monkeypatch.setattr(store.client, "set_registered_model_alias", put)
        register(store, make_folder(1, validation=0.5))
        assert on(store, "best") == 2
        put(name, alias, version)
        assert on(store, "best") == 1

    monkeypatch.setattr(store.client, "set_registered_model_alias", slow)
    point_best(store, "vit-small")
    assert on(store, "best") == 2
