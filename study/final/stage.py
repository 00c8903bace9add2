"""The final stage: the winner is fixed on the validation cases, then the test cases are read once.

The finalists are the best configurations of 3D_FCN_PPM and the best of each baseline. Each one is the ensemble of its
runs over seeds (`study.finalists.finalists`). All finalists segment the validation cases by the paper's full inference,
which settles the post-processing of each (`study.final.post_processing`). The winner is the finalist of 3D_FCN_PPM
with the highest mean of kidney and tumor Dice there. Then the winner, the baselines and, as an appendix, the other
finalists segment the test cases.

The work is streamed. While networks vote on one case, processors finish other cases. While the post-processing of one
finalist is settled, the next finalist votes. The rows of each case are kept, so an interrupted stage resumes case by
case.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final, Literal, TypeAlias

import numpy as np

from renalnet.data.store.reader import Store
from renalnet.errors import ResultsError
from renalnet.evaluation.intensity_rules import fit_inside_rule, fit_window_rule
from renalnet.evaluation.table import measure
from renalnet.inference.post_processing import PostProcessing
from renalnet.runtime import storage
from renalnet.types import FOREGROUND_LABELS, LABEL_NAMES, HuArray, LabelArray, Split
from study.config.sections import StudyConfig
from study.final.case_jobs import FinalCase, Row, Work, finish, finish_kept, keep_ballot
from study.final.planning import plan_rows
from study.final.post_processing import ChosenPostProcessing, choose_post_processing, chosen_from
from study.final.quality import quality_rows
from study.finalists.finalists import OURS, Finalist, load_finalists
from study.finalists.selection import fix_winner
from study.records import paths
from study.records.trials import read_parquet, write_parquet

Role: TypeAlias = Literal["winner", "baseline", "appendix"]
METRICS: Final = "metrics.parquet"
STEPS: Final = "steps.json"
QUALITY: Final = "quality.parquet"
PLANS: Final = "plan.parquet"
_IN_FLIGHT: Final = 2
"""Candidates: one votes while the steps of the other are settled."""


@dataclass(frozen=True)
class Outcome:
    """What the final stage has found."""

    winner: Finalist
    settled: dict[str, ChosenPostProcessing]
    """Post-processing of each finalist, by its name."""

    @property
    def post_processing(self) -> PostProcessing:
        """Post-processing of the winner."""
        return self.settled[self.winner.name].post_processing

    @property
    def warnings(self) -> list[str]:
        """A line for each operation of a finalist that is not used because it lowered the tumor Dice."""
        return [f"{name}: {line}" for name, settled in self.settled.items() for line in settled.warnings]


def run_final(config: StudyConfig, results: str, store: Store, work: Work) -> Outcome:
    """Run the final stage and write all that the report needs.

    What an interrupted stage has measured is not measured again, and a winner once fixed stays, unless the study has
    been extended since and has other candidates.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a whole checkpoint, or there are no validation or test patients.
    """
    candidates = load_finalists(results, config)
    stage = _Stage(config, results, store, work)
    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        validated = list(pool.map(stage.validate, candidates))
    validation = [row for _, rows in validated for row in rows]
    settled = {candidate.name: found for candidate, (found, _) in zip(candidates, validated, strict=True)}
    winner = fix_winner(results, candidates, _scores(candidates, validation))
    order = sorted(candidates, key=lambda candidate: (candidate.name != winner, candidate.network == OURS))
    test = [row for candidate in order for row in stage.test(candidate, settled[candidate.name])]
    roles = {candidate.name: _role(candidate, winner) for candidate in candidates}
    rows = [{**row, "role": roles[row["checkpoint"]]} for row in validation + test]
    write_parquet(paths.final_path(results, METRICS), rows + _intensity_rules(store))
    chosen = next(candidate for candidate in candidates if candidate.name == winner)
    _write_trust(stage, chosen, candidates, rows)
    storage.write_json(paths.final_path(results, STEPS), {name: one.to_json() for name, one in settled.items()})
    shown = [candidate for candidate in order if roles[candidate.name] != "appendix"]
    for case in store.cases("test"):
        _write_view(results, store, case, shown)
    return Outcome(chosen, settled)


def _write_trust(stage: "_Stage", winner: Finalist, candidates: Sequence[Finalist], rows: Sequence[Row]) -> None:
    """What a clinician asks of the winner's masks: how far each can be trusted, and what it tells of the operation."""
    rivals = [candidate for candidate in candidates if candidate.network == OURS and candidate is not winner]
    write_parquet(paths.final_path(stage.results, QUALITY), quality_rows(stage.results, winner, rivals, rows))
    patients = [FinalCase(stage.results, stage.store.path, case, winner) for case in stage.store.cases("test")]
    write_parquet(paths.final_path(stage.results, PLANS), plan_rows(patients, [one.name for one in rivals], stage.work))


@dataclass(frozen=True)
class _Stage:
    config: StudyConfig
    results: str
    store: Store
    work: Work

    def validate(self, candidate: Finalist) -> tuple[ChosenPostProcessing, list[Row]]:
        """Settle the candidate's steps on the validation patients, and measure it there."""
        patients = self._patients("validation", candidate)
        settled = self._settled(candidate, patients)
        left = self._left("validation", patients)
        self._vote(left)
        for _ in self.work.apply(partial(finish_kept, post_processing=settled.post_processing), left):
            pass
        for patient in patients:
            storage.delete(patient.vote_path)
        return settled, self._rows("validation", patients)

    def test(self, candidate: Finalist, settled: ChosenPostProcessing) -> list[Row]:
        """Measure the candidate on the test patients."""
        patients = self._patients("test", candidate)
        ending = partial(finish, post_processing=settled.post_processing)
        for _ in self.work.vote(self._left("test", patients), self.config.final.stitch, ending):
            pass
        return self._rows("test", patients)

    def _settled(self, candidate: Finalist, patients: Sequence[FinalCase]) -> ChosenPostProcessing:
        path = paths.steps_path(self.results, candidate.name, candidate.digest)
        if storage.exists(path):
            return chosen_from(storage.read_json(path))
        self._vote(patients)
        settled = choose_post_processing(patients, self.config.final, self.config.seed, self.work)
        storage.write_json(path, settled.to_json())
        return settled

    def _vote(self, patients: Sequence[FinalCase]) -> None:
        """Keep the votes that are not kept yet."""
        kept = set(storage.list_names(paths.votes_folder(self.results)))
        missing = [patient for patient in patients if patient.vote_path.rpartition("/")[2] not in kept]
        for _ in self.work.vote(missing, self.config.final.stitch, keep_ballot):
            pass

    def _patients(self, split: Split, candidate: Finalist) -> list[FinalCase]:
        """All of a split; parts of the candidate with other weights or settings go, since its masks are overwritten."""
        cases = self.store.cases(split)
        if not cases:
            raise ResultsError(f"{self.store.path}: no {split} patients; prepare the store with some")
        folder = paths.parts_folder(self.results)
        for name in _parts_of(storage.list_names(folder), split, candidate):
            storage.delete(storage.join(folder, name))
        return [FinalCase(self.results, self.store.path, case, candidate) for case in cases]

    def _left(self, split: Split, patients: Sequence[FinalCase]) -> list[FinalCase]:
        """Those who are not measured yet."""
        done = set(storage.list_names(paths.parts_folder(self.results)))
        signed = set(storage.list_names(paths.signs_folder(self.results, patients[0].candidate.name)))
        return [
            patient
            for patient in patients
            if patient.part_path(split).rpartition("/")[2] not in done or f"{patient.case}.json" not in signed
        ]

    def _rows(self, split: Split, patients: Sequence[FinalCase]) -> list[Row]:
        return [row for patient in patients for row in read_parquet(patient.part_path(split))]


def _parts_of(names: Iterable[str], split: str, candidate: Finalist) -> list[str]:
    """Of a candidate when it had other weights, or they were used otherwise."""
    pattern = re.compile(rf"{split}-{re.escape(candidate.name)}-(?!{candidate.digest}-)[0-9a-f]{{8}}-.*\.parquet")
    return [name for name in names if pattern.fullmatch(name)]


def _scores(candidates: Sequence[Finalist], validation: Sequence[Row]) -> dict[str, float]:
    """Mean Dice of kidney and tumor over the patients, after the last stage."""
    labels = [LABEL_NAMES[label] for label in FOREGROUND_LABELS]
    final = [row for row in validation if row["stage"] == "final" and row["label"] in labels]
    return {
        candidate.name: float(np.mean([row["dice"] for row in final if row["checkpoint"] == candidate.name]))
        for candidate in candidates
    }


def _role(candidate: Finalist, winner: str) -> Role:
    if candidate.network != OURS:
        return "baseline"
    return "winner" if candidate.name == winner else "appendix"


def _intensity_rules(store: Store) -> list[Row]:
    """The two rules without a network, fitted on training and validation patients, measured on the test patients."""
    rois = [roi for split in ("train", "validation") for roi in store.read_split(split)]
    known = [(roi.image, roi.label) for roi in rois]
    rules: dict[str, Callable[[HuArray, LabelArray], LabelArray]] = {
        "threshold_roi": fit_window_rule(known).apply,
        "threshold_inside": fit_inside_rule(known).apply,
    }
    return [
        {
            **{
                "case": roi.case,
                "split": "test",
                "network": name,
                "checkpoint": "",
                "stage": "final",
                "role": "rule",
            },
            **asdict(measures),
        }
        for roi in store.read_split("test")
        for name, apply in rules.items()
        for measures in measure(roi.label, apply(roi.image, roi.label), roi.spacing_mm)
    ]


def _write_view(results: str, store: Store, case: str, shown: Sequence[Finalist]) -> None:
    roi = store.read(case)
    low, high = store.normalisation.hu_min, store.normalisation.hu_max
    windowed = ((np.clip(roi.image.astype(np.float32), low, high) - low) * (255 / (high - low))).astype(np.uint8)
    labels = {
        f"pred_{candidate.network}": storage.read_arrays(paths.roi_labels_path(results, candidate.name, case))["labels"]
        for candidate in shown
    }
    arrays = {"image": windowed, "truth": roi.label, "spacing_mm": np.array(roi.spacing_mm), **labels}
    storage.write_arrays(paths.view_path(results, case), arrays)
