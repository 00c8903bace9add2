"""The final stage: the winner is fixed on the validation patients, then the test patients are read once.

Candidates are the best configurations of 3D_FCN_PPM and the best of each baseline, each by the ensemble of its runs
over seeds (`study.candidates`). All go over the validation patients by the paper's full inference; the winner is the
3D_FCN_PPM candidate with the highest mean of kidney and tumor Dice there. Then winner, baselines and, as an appendix,
the other candidates go over the test patients.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from renalnet import storage
from renalnet.data.store import Store, open_store
from renalnet.data.volume import Volume, to_source, write_volume
from renalnet.errors import ResultsError
from renalnet.infer.pipeline import Stages, load_ensemble, segment_roi
from renalnet.metrics.intensity import fit_inside_rule, fit_window_rule
from renalnet.metrics.table import measure
from renalnet.types import HuArray, LabelArray, Split
from study import layout
from study.candidates import OURS, Candidate, find_candidates
from study.collect import read_parquet, write_parquet
from study.config import FinalConfig, StudyConfig
from study.selection import fix_winner

Role: TypeAlias = Literal["winner", "baseline", "appendix"]
Row: TypeAlias = dict[str, Any]
METRICS: Final = "metrics.parquet"


@dataclass(frozen=True)
class SegmentJob:
    """One patient through one candidate: a task for any process that sees the store and the results."""

    results: str
    store: str
    case: str
    candidate: Candidate
    config: FinalConfig


Segmenter: TypeAlias = Callable[[Sequence[SegmentJob]], Iterable[list[Row]]]
"""Runs jobs anywhere, in parallel; yields the rows of each in the order of the jobs."""


def segment_case(job: SegmentJob) -> list[Row]:
    """Segment a patient, keep the mask, and measure every stage: a row a stage and label."""
    roi = open_store(job.store).read(job.case)
    model = load_ensemble([layout.trial_folder(job.results, name) for name in job.candidate.members])
    stages = segment_roi(model, roi.image, roi.spacing_mm, job.config.stitch, job.config.crf)
    on_source = to_source(Volume(stages.final, roi.grid), roi.source)
    write_volume(layout.mask_path(job.results, job.candidate.name, job.case), on_source)
    path = layout.roi_labels_path(job.results, job.candidate.name, job.case)
    storage.write_arrays(path, labels=stages.final)
    about = {
        "case": job.case,
        "split": roi.split,
        "network": job.candidate.network,
        "checkpoint": job.candidate.name,
    }
    return [
        {**about, "stage": stage, **measures}
        for stage, labels in _by_stage(stages).items()
        for measures in measure(roi.label, labels, roi.spacing_mm)
    ]


def run_final(config: StudyConfig, results: str, store: Store, segment_all: Segmenter) -> Candidate:
    """Run the final stage and write all that the report needs; returns the winner.

    What an interrupted stage has measured is not measured again, and a winner once fixed stays, unless the study has
    been extended since and has other candidates.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a checkpoint, or there are no validation or test patients.
    """
    candidates = find_candidates(results, config)
    stage = _Stage(config, results, store, segment_all)
    validation = [row for candidate in candidates for row in stage.measure("validation", candidate)]
    winner = fix_winner(results, candidates, _scores(candidates, validation))
    order = sorted(candidates, key=lambda candidate: (candidate.name != winner, candidate.network == OURS))
    test = [row for candidate in order for row in stage.measure("test", candidate)]
    roles = {candidate.name: _role(candidate, winner) for candidate in candidates}
    rows = [{**row, "role": roles[row["checkpoint"]]} for row in validation + test]
    write_parquet(layout.final_path(results, METRICS), rows + _intensity_rules(store))
    shown = [candidate for candidate in order if roles[candidate.name] != "appendix"]
    for case in store.cases("test"):
        _write_view(results, store, case, shown)
    return next(candidate for candidate in candidates if candidate.name == winner)


@dataclass(frozen=True)
class _Stage:
    config: StudyConfig
    results: str
    store: Store
    segment_all: Segmenter

    def measure(self, split: Split, candidate: Candidate) -> list[Row]:
        """The rows of a candidate over a split; read back where they were written for the same weights."""
        folder = layout.parts_folder(self.results)
        path = storage.join(folder, layout.part_name(split, candidate.name, candidate.digest))
        if storage.exists(path):
            return read_parquet(path)
        for name in _parts_of(folder, split, candidate.name):  # of other weights, whose masks are written over now
            storage.delete(storage.join(folder, name))
        cases = self.store.cases(split)
        if not cases:
            raise ResultsError(f"{self.store.path}: no {split} patients; prepare the store with some")
        final = self.config.final
        jobs = [SegmentJob(self.results, self.store.path, case, candidate, final) for case in cases]
        rows = [row for job_rows in self.segment_all(jobs) for row in job_rows]
        write_parquet(path, rows)
        return rows


def _parts_of(folder: str, split: Split, name: str) -> list[str]:
    """Whatever weights a candidate had."""
    pattern = re.compile(layout.part_name(split, re.escape(name), "[0-9a-f]+"))
    return [part for part in storage.list_names(folder) if pattern.fullmatch(part)]


def _scores(candidates: Sequence[Candidate], validation: Sequence[Row]) -> dict[str, float]:
    """Mean Dice of both labels over the patients, after the last stage."""
    final = [row for row in validation if row["stage"] == "final"]
    return {
        candidate.name: float(np.mean([row["dice"] for row in final if row["checkpoint"] == candidate.name]))
        for candidate in candidates
    }


def _role(candidate: Candidate, winner: str) -> Role:
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
            **measures,
        }
        for roi in store.read_split("test")
        for name, apply in rules.items()
        for measures in measure(roi.label, apply(roi.image, roi.label), roi.spacing_mm)
    ]


def _write_view(results: str, store: Store, case: str, shown: Sequence[Candidate]) -> None:
    roi = store.read(case)
    low, high = store.normalisation.hu_min, store.normalisation.hu_max
    windowed = ((np.clip(roi.image.astype(np.float32), low, high) - low) * (255 / (high - low))).astype(np.uint8)
    labels = {
        f"pred_{candidate.network}": storage.read_arrays(layout.roi_labels_path(results, candidate.name, case))[
            "labels"
        ]
        for candidate in shown
    }
    spacing = np.array(roi.spacing_mm)
    storage.write_arrays(layout.view_path(results, case), image=windowed, truth=roi.label, spacing_mm=spacing, **labels)


def _by_stage(stages: Stages) -> dict[str, LabelArray]:
    return {"network": stages.network, "crf": stages.crf, "final": stages.final}
