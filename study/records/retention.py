"""The weights that a study keeps: of the best trials of each network, of the paper's point, and of running trials."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from renalnet.nets.bundle import CONFIG_FILE, MODEL_FILE
from renalnet.runtime import storage
from renalnet.train.epochs import EpochRecord
from study.records.ledger import Ledger
from study.records.results import Results
from study.records.trials import TrialRecord, is_reference, survives

# The record and the log of the epochs stay, because the tables are made of them.
_WEIGHTS: Final = re.compile(rf"checkpoint-\d+\.(json|safetensors)|{re.escape(MODEL_FILE)}|{re.escape(CONFIG_FILE)}")


class Retention:
    """Deletes the weights of ended trials that are no longer among the best of their network."""

    def __init__(self, results: Results, num_kept: int) -> None:
        """Keep the weights of `num_kept` trials of each network in a results folder; no trial has ended yet."""
        self._results = results
        self._num_kept = num_kept
        self._kept: dict[str, list[tuple[float, str]]] = {}
        self._references: set[str] = set()

    def add(self, record: TrialRecord, epochs: Sequence[EpochRecord]) -> None:
        """Rank a trial that has ended, and delete the weights that fall out of the ranking.

        The weights of a trial that failed by itself are deleted; those of the paper's point are not. Of equal trials
        the one with the lower number stays.
        """
        if not survives(epochs):
            self._delete(record.name)
            return
        if is_reference(record):
            self._references.add(record.name)
        best = max(epoch.objective for epoch in epochs)
        # Negated instead of sorted in reverse, which would put the higher number first among equals.
        ranked = sorted([*self._kept.get(record.network, []), (-best, record.name)])
        self._kept[record.network] = ranked[: self._num_kept]
        for loser in {name for _, name in ranked[self._num_kept :]} - self._references:
            self._delete(loser)

    def find(self, trials: Iterable[tuple[TrialRecord, Sequence[EpochRecord]]]) -> None:
        """Rank the trials that ended under an earlier driver and still have their weights."""
        for record, epochs in trials:
            # A trial without weights must not hold a place, for example after `kept_models` was raised.
            if storage.exists(storage.join(self._results.trial_folder(record.name), MODEL_FILE)):
                self.add(record, epochs)

    def _delete(self, name: str) -> None:
        folder = self._results.trial_folder(name)
        files = list(filter(_WEIGHTS.fullmatch, storage.list_names(folder)))
        Ledger(self._results).drop(f"trials/{name}/{file}" for file in files)
        for file in files:
            storage.delete(storage.join(folder, file))
