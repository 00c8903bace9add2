"""The final stage: the winner is fixed on the validation cases, then the test cases are read once.

The finalists are the best configurations of 3D_FCN_PPM, the one with the paper's values, and the best of each baseline.
Each one is the ensemble of its runs over seeds (`study.finalists.finalists`). All finalists segment the validation
cases by the paper's full inference, on which the post-processing of each is chosen (`study.final.post_processing`). The
winner is the finalist of 3D_FCN_PPM with the highest mean Dice of the labels there or, with few validation cases, with
the highest mean objective over folds. Then the winner, the baselines, the paper's values and, as an appendix, the other
finalists segment the test cases.

The work is streamed. While networks vote on one case, processors finish other cases. While the post-processing of one
finalist is chosen, the next finalist votes. The rows of each case are kept, so an interrupted stage resumes case by
case.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from renalnet.config import MAIN_NETWORK, LabelSet
from renalnet.data.store.reader import Store
from renalnet.errors import ResultsError
from renalnet.inference.post_processing import FINAL, PostProcessing
from renalnet.runtime import storage
from renalnet.types import Split
from study.config.sections import StudyConfig
from study.final.case_jobs import FinalCase, Work, finish, finish_kept, write_vote
from study.final.intensity import intensity_measurements
from study.final.planning import planning_sheets
from study.final.post_processing import ChosenPostProcessing, choose_post_processing, chosen_from
from study.final.quality import quality_rows
from study.final.views import write_view
from study.finalists.finalists import Finalist, load_finalists
from study.finalists.selection import fix_winner, folds_to_choose_by
from study.records.files import read_object
from study.records.ledger import Ledger
from study.records.parquet import read_rows, write_rows
from study.records.results import Results
from study.records.tables import APPENDIX, BASELINE, PAPER, WINNER, Measurement, Role, StageMeasurement

_ORDER: Final = (WINNER, BASELINE, PAPER, APPENDIX)
"""Order in which finalists segment the test cases, by their role."""
_IN_FLIGHT: Final = 2
"""Finalists that are validated at once: one votes while the post-processing of the other is chosen."""


@dataclass(frozen=True)
class Outcome:
    """Result of the final stage."""

    winner: Finalist
    """The finalist that `fix_winner` has chosen."""
    chosen: dict[str, ChosenPostProcessing]
    """Post-processing of each finalist, by its name."""

    @property
    def post_processing(self) -> PostProcessing:
        """Post-processing of the winner."""
        return self.chosen[self.winner.name].post_processing

    @property
    def warnings(self) -> list[str]:
        """A line for each operation of a finalist that is not used because it lowered the tumor Dice."""
        return [f"{name}: {line}" for name, chosen in self.chosen.items() for line in chosen.warnings]


def run_final(config: StudyConfig, results: Results, store: Store, work: Work) -> Outcome:
    """Run the final stage and write all files that the report needs.

    Cases that an interrupted stage has measured are not measured again. A winner that was fixed before is kept, unless
    the study has been extended since and has other finalists.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has an intact model, or the store has no validation or test cases.
    """
    finalists = load_finalists(results, config)
    stage = _Stage(config, results, store, work)
    # Threads suffice, because they only wait for jobs in other processes.
    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        validated = list(pool.map(stage.validate, finalists))
    chosen = {finalist.name: each for finalist, (each, _) in zip(finalists, validated, strict=True)}
    validation = [row for _, rows in validated for row in rows]
    num_folds = folds_to_choose_by(config, len(store.cases("validation")))
    scores = _scores(finalists, validation, store.labels)
    name = fix_winner(results, finalists, scores, store.labels, num_folds=num_folds)
    winner = next(finalist for finalist in finalists if finalist.name == name)
    roles = {finalist.name: _role(finalist, winner) for finalist in finalists}
    # The appendix comes last, because it is the part that an interrupted study can miss.
    order = sorted(finalists, key=lambda finalist: _ORDER.index(roles[finalist.name]))
    test = [row for finalist in order for row in stage.test(finalist, chosen[finalist.name])]
    measurements = _with_roles(validation + test, roles)
    write_rows(results.metrics_path, [*measurements, *intensity_measurements(store)])
    _write_judgements(stage, winner, finalists, measurements)
    storage.write_json(results.post_processings_path, {name: each.to_json() for name, each in chosen.items()})
    # A view has one mask for each network.
    shown = [finalist for finalist in order if roles[finalist.name] in (WINNER, BASELINE)]
    for case in store.cases("test"):
        write_view(results, store, case, shown)
    return Outcome(winner, chosen)


def _with_roles(rows: Iterable[StageMeasurement], roles: Mapping[str, Role]) -> list[Measurement]:
    return [Measurement(**vars(row), role=roles[row.checkpoint]) for row in rows]


def _write_judgements(
    stage: "_Stage", winner: Finalist, finalists: Sequence[Finalist], measurements: Sequence[Measurement]
) -> None:
    """Write the tables that judge the winner's masks: their expected quality and the planning sheets."""
    others = [finalist for finalist in finalists if finalist.network == MAIN_NETWORK and finalist is not winner]
    labels = stage.store.labels
    write_rows(stage.results.quality_path, quality_rows(stage.results, winner, others, measurements, labels))
    cases = [FinalCase(stage.results, stage.store.path, case, winner, labels) for case in stage.store.cases("test")]
    write_rows(stage.results.planning_path, planning_sheets(cases, [other.name for other in others], stage.work))


@dataclass(frozen=True)
class _Stage:
    config: StudyConfig
    results: Results
    store: Store
    work: Work

    def validate(self, finalist: Finalist) -> tuple[ChosenPostProcessing, list[StageMeasurement]]:
        """Choose the finalist's post-processing on the validation cases, and measure it there."""
        cases = self._cases("validation", finalist)
        chosen = self._chosen(finalist, cases)
        left = self._left("validation", cases)
        self._reopen("validation", left)
        # `_chosen` casts no vote where the choice was written before, and the votes of then may be deleted.
        self._vote(left)
        for _ in self.work.apply(partial(finish_kept, post_processing=chosen.post_processing), left):
            pass  # the jobs write files; iterating waits for them
        # Only now, because a killed stage continues from the votes; they are far larger than the masks.
        for case in cases:
            storage.delete(case.vote_path)
        self._close("validation", cases)
        return chosen, self._rows("validation", cases)

    def test(self, finalist: Finalist, chosen: ChosenPostProcessing) -> list[StageMeasurement]:
        """Measure the finalist on the test cases."""
        cases = self._cases("test", finalist)
        ending = partial(finish, post_processing=chosen.post_processing)
        left = self._left("test", cases)
        self._reopen("test", left)
        for _ in self.work.vote(left, self.config.final.stitch, ending):
            pass
        self._close("test", cases)
        return self._rows("test", cases)

    def _chosen(self, finalist: Finalist, cases: Sequence[FinalCase]) -> ChosenPostProcessing:
        path = self.results.post_processing_path(finalist.name, finalist.digest)
        if storage.exists(path):
            return chosen_from(read_object(path))
        self._vote(cases)
        chosen = choose_post_processing(cases, self.config.final, self.config.seed, self.work)
        storage.write_json(path, chosen.to_json())
        return chosen

    def _vote(self, cases: Sequence[FinalCase]) -> None:
        """Write the votes that are not written yet."""
        kept = set(storage.list_names(self.results.votes_folder))
        missing = [case for case in cases if case.vote_name not in kept]
        for _ in self.work.vote(missing, self.config.final.stitch, write_vote):
            pass

    def _cases(self, split: Split, finalist: Finalist) -> list[FinalCase]:
        """Return the cases of a split. Measurements of the finalist with other weights or settings are deleted first.

        Its masks are about to be overwritten, so these measurements would belong to no mask.
        """
        cases = self.store.cases(split)
        if not cases:
            raise ResultsError(f"{self.store.path}: no {split} cases; prepare a store with some")
        outdated = _outdated_parts(storage.list_names(self.results.parts_folder), split, finalist)
        Ledger(self.results).drop(f"final/parts/{name}" for name in outdated)
        for name in outdated:
            storage.delete(self.results.part_path(name))
        return [FinalCase(self.results, self.store.path, case, finalist, self.store.labels) for case in cases]

    def _reopen(self, split: Split, cases: Sequence[FinalCase]) -> None:
        """Take the cases that are about to be measured out of the ledger."""
        Ledger(self.results).drop(name for case in cases for name in case.file_names(split))

    def _close(self, split: Split, cases: Sequence[FinalCase]) -> None:
        """Enter the masks and measurements of a finalist, and the choice of its post-processing."""
        finalist = cases[0].finalist
        chosen = f"final/steps/{finalist.name}-{finalist.digest}.json"
        Ledger(self.results).add_new([chosen, *(name for case in cases for name in case.file_names(split))])

    def _left(self, split: Split, cases: Sequence[FinalCase]) -> list[FinalCase]:
        """Return the cases without measurements, or without signs, which an earlier version did not write."""
        # Two listings instead of two requests per case, since the folder may be on an object store.
        done = set(storage.list_names(self.results.parts_folder))
        signed = set(storage.list_names(self.results.signs_folder(cases[0].finalist.name)))
        return [case for case in cases if case.part_name(split) not in done or f"{case.case}.json" not in signed]

    def _rows(self, split: Split, cases: Sequence[FinalCase]) -> list[StageMeasurement]:
        return [row for case in cases for row in read_rows(case.part_path(split), StageMeasurement)]


def _outdated_parts(names: Iterable[str], split: str, finalist: Finalist) -> list[str]:
    """Return the measurements of a finalist with another digest: other weights, or used in another way."""
    # Eight digits as in `Finalist.digest`; what follows them is a case, whose name may hold hyphens.
    pattern = re.compile(rf"{split}-{re.escape(finalist.name)}-(?!{finalist.digest}-)[0-9a-f]{{8}}-.*\.parquet")
    return [name for name in names if pattern.fullmatch(name)]


def _scores(
    finalists: Sequence[Finalist], validation: Sequence[StageMeasurement], labels: LabelSet
) -> dict[str, float]:
    """Return the mean Dice of the labels over the cases, after the last stage, by finalist."""
    final = [row for row in validation if row.stage == FINAL and row.label in labels]
    return {
        finalist.name: float(np.mean([row.dice for row in final if row.checkpoint == finalist.name]))
        for finalist in finalists
    }


def _role(finalist: Finalist, winner: Finalist) -> Role:
    if finalist.network != MAIN_NETWORK:
        return BASELINE
    if finalist is winner:
        return WINNER
    return PAPER if finalist.is_reference else APPENDIX
