import logging

import pytest

from zoo.registry.register import register
from zoo.registry.runs import search_runs
from zoo.registry.store import TRAIN
from zoo.registry.tracking import TrackingCallback

# Whatever the training loop measures; the values do not matter.
ROWS = [
    {"epoch": i, "step": 2 * i, "train/loss": 1.0 / i, "learning_rate": 0.1, "seconds": 0.5}
    for i in (1, 2, 3)
]
STEPS = [
    [{"step": 2 * i + k, "train/step_loss": 0.5, "learning_rate": 0.1} for k in (1, 2)]
    for i in (0, 1, 2)
]


def epochs(callback: TrackingCallback, *indices: int) -> None:
    for i in indices:
        callback.on_epoch(ROWS[i], STEPS[i])


def steps_of(store, key: str) -> list[int]:
    run_id = search_runs(store, TRAIN)[0].info.run_id
    return sorted(metric.step for metric in store.client.get_metric_history(run_id, key))


def make(root) -> TrackingCallback:
    return TrackingCallback("vit-small-0", "a1b2", {"epochs": 3, "data": {"size": 16}}, root=root)


def test_a_run_is_logged_while_it_trains(store, root, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train@vit-small-0")
    monkeypatch.setenv("DVC_EXP_NAME", "wavy-yeti")
    callback, state = make(root), {}
    callback.on_start(state)
    epochs(callback, 0)
    run = search_runs(store, TRAIN)[0]
    assert (run.info.run_id, run.info.status) == (state["mlflow_run_id"], "RUNNING")
    assert run.info.run_name == "vit-small-0"
    assert run.data.params == {"epochs": "3", "data.size": "16"}
    assert run.data.metrics["train/loss"] == 1.0
    tags = run.data.tags
    assert (tags["zoo.name"], tags["zoo.input_hash"]) == ("vit-small", "a1b2")
    assert (tags["DVC_STAGE"], tags["DVC_EXP_NAME"]) == ("train@vit-small-0", "wavy-yeti")
    callback.on_end(True)
    assert search_runs(store, TRAIN)[0].info.status == "FINISHED"


def test_an_epoch_is_one_request(root, monkeypatch):
    callback = make(root)
    callback.on_start({})
    requests = []
    monkeypatch.setattr(callback._store.client, "log_batch", lambda *a, **k: requests.append(a))
    epochs(callback, 0)
    assert len(requests) == 1


def test_a_failed_training_is_marked(store, root):
    callback = make(root)
    callback.on_start({})
    callback.on_end(False)
    assert search_runs(store, TRAIN)[0].info.status == "FAILED"


def test_a_killed_training_continues_its_run_and_doubles_nothing(store, root):
    first, state = make(root), {}
    first.on_start(state)
    epochs(first, 0)
    checkpoint = dict(state)
    epochs(first, 1)  # logged, but killed before the next checkpoint
    second = make(root)
    second.on_start(checkpoint)
    epochs(second, 1, 2)
    second.on_end(True)
    assert len(search_runs(store, TRAIN)) == 1
    assert steps_of(store, "train/loss") == [1, 2, 3]
    assert steps_of(store, "train/step_loss") == [1, 2, 3, 4, 5, 6]
    assert search_runs(store, TRAIN)[0].info.status == "FINISHED"


def test_killed_before_the_first_checkpoint_it_finds_its_run_by_its_inputs(store, root):
    first = make(root)
    first.on_start({})
    epochs(first, 0)
    second = make(root)
    second.on_start({})
    epochs(second, 0, 1, 2)
    second.on_end(True)
    assert len(search_runs(store, TRAIN)) == 1
    assert steps_of(store, "train/loss") == [1, 2, 3]


def test_a_training_done_again_replaces_its_run(store, root):
    for _ in range(2):
        callback, state = make(root), {}
        callback.on_start(state)
        epochs(callback, 0)
        callback.on_end(True)
    assert [run.info.run_id for run in search_runs(store, TRAIN)] == [state["mlflow_run_id"]]


def test_a_training_done_again_leaves_the_run_of_a_registered_model(store, root):
    first, state = make(root), {}
    first.on_start(state)
    epochs(first, 0)
    store.client.set_tag(state["mlflow_run_id"], "zoo.sha256", "d" * 64)
    second, continued = make(root), dict(state)
    second.on_start(continued)
    assert continued["mlflow_run_id"] != state["mlflow_run_id"]
    assert len(search_runs(store, TRAIN)) == 2


def test_a_run_that_was_deleted_meanwhile_is_begun_anew(store, root):
    first, state = make(root), {}
    first.on_start(state)
    store.client.delete_run(state["mlflow_run_id"])
    second, before = make(root), state["mlflow_run_id"]
    second.on_start(state)
    assert state["mlflow_run_id"] != before
    assert len(search_runs(store, TRAIN)) == 1


def test_a_server_that_is_away_costs_one_warning(root, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING):
        callback, state = make(root), {}
        callback.on_start(state)
        epochs(callback, 0, 1)
        callback.on_end(True)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert message.startswith("vit-small-0 is trained without live logging (no answer from the tr")
    assert "secret" not in message
    assert "\n" not in message


def test_a_server_that_goes_away_costs_one_warning(root, monkeypatch, caplog):
    callback = make(root)
    callback.on_start({})

    def gone(*_arguments, **_named):
        raise ConnectionResetError("gone")

    monkeypatch.setattr(callback._store.client, "log_batch", gone)
    with caplog.at_level(logging.WARNING):
        epochs(callback, 0, 1)
        callback.on_end(True)
    assert len(caplog.records) == 1


def test_what_a_server_missed_in_all_is_registered_afterwards(
    store, root, make_folder, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        callback = make(root)
        callback.on_start({})
        epochs(callback, 0)
        callback.on_end(True)
    assert register(store, make_folder()).created
    assert steps_of(store, "train/loss") == [1, 2]


@pytest.mark.slow
def test_the_training_loop_logs_the_history_that_register_reads(store, root, digits_folder):
    """The loop's rows, its CSV files and the adopted run agree, over a real training."""
    from zoo.config import Params, Variant
    from zoo.config.mapping import from_mapping
    from zoo.training.variants import train_variant

    params = from_mapping(
        Params,
        {
            "data": {
                "source": "digits", "root": "raw", "image_size": 16, "validation": 0.1, "seed": 0,
            },
            "subsets": {"small": 40},
            "models": {
                "vit": {"arch": "vit", "kwargs": {"embed_dim": 16, "depth": 1, "num_heads": 2}}
            },
            "study": {"models": ["vit"], "subsets": ["small"], "seeds": [0]},
            "train": {"epochs": 2, "batch_size": 20, "learning_rate": 0.001, "threads": 1},
            "compare": {"pairs": [], "images": 20, "batch_size": 10},
        },
        "params",
    )  # fmt: skip
    train_variant(
        params,
        Variant("vit", "small", 0),
        subsets=digits_folder,
        folder=root / "models" / "vit-small-0",
        checkpoints=root / ".zoo" / "checkpoints",
        callbacks=lambda inputs, settings: [
            TrackingCallback("vit-small-0", inputs, settings, root=root)
        ],
    )
    register(store, root / "models" / "vit-small-0", test_folder=digits_folder / "test")
    assert len(search_runs(store, TRAIN)) == 1
    assert steps_of(store, "train/loss") == [1, 2]
    assert steps_of(store, "train/step_loss") == [1, 2, 3, 4]
