"""Logging of a training while it runs; if the server is unreachable, there is one warning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UserError
from zoo.files import find_root
from zoo.registry.history import Row, extend_digest, points
from zoo.registry.local_database import store_address

if TYPE_CHECKING:
    from zoo.registry.store import Store

logger = logging.getLogger(__name__)

RUN_ID, HISTORY = "mlflow_run_id", "mlflow_history"
REGISTERED = "zoo.sha256"  # the tag of a run whose model has a version


class TrackingCallback:
    """Logs a training to MLflow; continues the same run after a kill.

    The checkpoint's state holds the run's id and the identity of its history. The identity is also
    a tag of the run: `register` finds the run by it and adds what an unreachable server missed.
    """

    def __init__(
        self,
        key: str,
        input_hash: str,
        params: Mapping[str, Any] | None = None,
        *,
        root: Path | None = None,
    ) -> None:
        """Take the run's name, such as `vit-small-0`, and its settings.

        `input_hash` is the digest of all that decides the weights.
        """
        self.key, self.input_hash, self.params, self.root = key, input_hash, params or {}, root
        self._store: Store | None = None
        self._state: dict[str, Any] = {}
        self._logged: dict[str, set[int]] = {}

    def on_start(self, state: dict[str, Any]) -> None:
        """Start a run, or continue the one that a killed process left."""
        self._state = state
        self._attempt(self._start)

    def on_epoch(self, row: Row, steps: list[Row]) -> None:
        """Log an epoch in one request, without what an interrupted process logged already."""
        self._state[HISTORY] = extend_digest(self._state.get(HISTORY, ""), row)
        if store := self._store:
            from zoo.registry.runs import log_points

            new = [
                point
                for point in points([row], "epoch") + points(steps, "step")
                if point.step not in self._logged.get(point.key, ())
            ]
            run_id, history = self._state[RUN_ID], self._state[HISTORY]
            self._attempt(lambda: log_points(store, run_id, new, history=history))

    def on_end(self, ok: bool) -> None:
        """Mark the run as finished or failed."""
        if store := self._store:
            run_id, status = self._state[RUN_ID], "FINISHED" if ok else "FAILED"
            self._attempt(lambda: store.client.set_terminated(run_id, status))

    def _start(self) -> None:
        from zoo.registry import runs
        from zoo.registry.store import TRAIN, open_store

        store = open_store(self.root)
        found = runs.search_runs(store, TRAIN, input_hash=self.input_hash)
        # Runs of registered models stay as they are.
        found = [run for run in found if REGISTERED not in run.data.tags]
        run = next((run for run in found if run.info.run_id == self._state.get(RUN_ID)), None)
        for other in found:
            # Left by a kill, or by an earlier training of the same model. It is not continued: what
            # it logged is of another training than the weights.
            if other is not run and other.data.tags.get(runs.PLACE) == store.place:
                store.client.delete_run(other.info.run_id)
        if run is None:
            name = self.key.rpartition("-")[0]
            tags = {"zoo.name": name, "zoo.input_hash": self.input_hash}
            run = runs.begin_run(store, TRAIN, self.key, tags, "zoo train")
        else:
            store.client.update_run(run.info.run_id, runs.RUNNING)
            for key in run.data.metrics:
                self._logged[key] = runs.logged_steps(store, run.info.run_id, key)
        runs.log_params(store, run, self.params)
        self._state[RUN_ID] = run.info.run_id
        self._store = store

    def _attempt(self, act: Callable[[], None]) -> None:
        """Do something on the server; training continues whatever goes wrong there."""
        try:
            from zoo.registry.faults import translate_mlflow_errors

            uri = self._store.uri if self._store else store_address(self.root or find_root())
            with translate_mlflow_errors(uri):
                act()
        except Exception as error:
            self._store = None
            told = isinstance(error, UserError)
            reason = str(error) if told else f"{type(error).__name__}: {error}"
            logger.warning(
                "%s is trained without live logging (%s); nothing is lost: `zoo register` logs "
                "its history afterwards",
                self.key,
                " ".join(reason.split()),
            )
