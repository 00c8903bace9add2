"""Whose weights a study keeps: the best trials of each network, and all that are running."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from renalnet.nets.bundle import CONFIG_FILE, MODEL_FILE
from renalnet.runtime import storage
from renalnet.train.epochs import EpochRecord
from study.records import paths
from study.records.trials import TrialRecord, survives

_WEIGHTS: Final = re.compile(rf"checkpoint-\d+\.(json|safetensors)|{re.escape(MODEL_FILE)}|{re.escape(CONFIG_FILE)}")


class Retention:
    """Lets go of the weights of ended trials that are no longer among the best of their network."""

    def __init__(self, results: str, num_kept: int) -> None:
        """Keep `num_kept` trials of each network in the results folder; none has ended yet."""
        self._results, self._num_kept = results, num_kept
        self._kept: dict[str, list[tuple[float, str]]] = {}

    def add(self, record: TrialRecord, epochs: Sequence[EpochRecord]) -> None:
        """A trial has ended. One that failed by itself is let go; of equals the one of the lower number is kept."""
        if not survives(epochs):
            self._release(record.name)
            return
        best = max(epoch.objective for epoch in epochs)
        ranked = sorted([*self._kept.get(record.network, []), (-best, record.name)])
        self._kept[record.network] = ranked[: self._num_kept]
        for _, loser in ranked[self._num_kept :]:
            self._release(loser)

    def find(self, trials: Iterable[tuple[TrialRecord, Sequence[EpochRecord]]]) -> None:
        """Trials that ended under an earlier driver: those that still have their weights hold a place."""
        for record, epochs in trials:
            if storage.exists(storage.join(paths.trial_folder(self._results, record.name), MODEL_FILE)):
                self.add(record, epochs)

    def _release(self, name: str) -> None:
        folder = paths.trial_folder(self._results, name)
        for file in filter(_WEIGHTS.fullmatch, storage.list_names(folder)):
            storage.delete(storage.join(folder, file))
