"""Whose weights a study keeps: the best trials of each network, and all that are running."""

import re
from typing import Final

from renalnet import storage
from renalnet.checkpoint import CONFIG_FILE, MODEL_FILE
from study import layout

_WEIGHTS: Final = re.compile(rf"checkpoint-\d+\.(json|safetensors)|{re.escape(MODEL_FILE)}|{re.escape(CONFIG_FILE)}")


class Retention:
    """Lets go of the weights of ended trials that are no longer among the best of their network."""

    def __init__(self, results: str, num_kept: int) -> None:
        """Keep `num_kept` trials of each network in the results folder; none has ended yet."""
        self._results, self._num_kept = results, num_kept
        self._kept: dict[str, list[tuple[float, str]]] = {}

    def add(self, network: str, name: str, objective: float) -> None:
        """A trial has ended with the best objective that it reached; of equals the one known first is kept."""
        best = sorted([*self._kept.get(network, []), (objective, name)], key=lambda entry: -entry[0])
        self._kept[network] = best[: self._num_kept]
        for _, loser in best[self._num_kept :]:
            self._release(loser)

    def _release(self, name: str) -> None:
        folder = layout.trial_folder(self._results, name)
        for file in filter(_WEIGHTS.fullmatch, storage.list_names(folder)):
            storage.delete(storage.join(folder, file))
