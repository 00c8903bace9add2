"""The final stage: the winner is fixed on the validation patients, then the test patients are read once.

Candidates are the best checkpoints of 3D_FCN_PPM and the best of each baseline. All go over the validation patients by
the paper's full inference; the winner is the 3D_FCN_PPM checkpoint with the highest mean of kidney and tumor Dice
there. Then winner, baselines and, as an appendix, the other checkpoints go over the test patients.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from renalnet import storage
from renalnet.data.store import Store, open_store
from renalnet.data.volume import Volume, to_source, write_volume
from renalnet.errors import ResultsError
from renalnet.infer.pipeline import Stages, load_bundle, segment_roi
from renalnet.metrics.intensity import fit_inside_rule, fit_window_rule
from renalnet.metrics.table import measure
from renalnet.types import HuArray, LabelArray, Split
from study import layout
from study.collect import read_curves, read_parquet, read_records, write_parquet
from study.config import FinalConfig, StudyConfig

Role: TypeAlias = Literal["winner", "baseline", "appendix"]
Row: TypeAlias = dict[str, Any]
OURS: Final = "fcn_ppm"
SELECTION: Final = "selection.json"
METRICS: Final = "metrics.parquet"


@dataclass(frozen=True)
class Candidate:
    """A trained checkpoint that takes part in the final stage."""

    network: str
    name: str
    objective: float
    """Best epoch's, in the training loop."""


@dataclass(frozen=True)
class SegmentJob:
    """One patient through one checkpoint: a task for any process that sees the store and the results."""

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
    model = load_bundle(layout.trial_folder(job.results, job.candidate.name))
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


def run_final(config: StudyConfig, results: str, store: Store, segment_all: Segmenter) -> str:
    """Run the final stage and write all that the report needs; the winner's name.

    What an interrupted stage has measured is not measured again, and a winner once fixed stays.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has a checkpoint, or there are no validation or test patients.
    """
    candidates = find_candidates(results, config)
    stage = _Stage(config, results, store, segment_all)
    validation = [row for candidate in candidates for row in stage.measure("validation", candidate)]
    winner = _fix_winner(results, candidates, validation)
    order = sorted(candidates, key=lambda candidate: (candidate.name != winner, candidate.network == OURS))
    test = [row for candidate in order for row in stage.measure("test", candidate)]
    roles = {candidate.name: _role(candidate, winner) for candidate in candidates}
    rows = [{**row, "role": roles[row["checkpoint"]]} for row in validation + test]
    write_parquet(layout.final_path(results, METRICS), rows + _intensity_rules(store))
    shown = [candidate for candidate in order if roles[candidate.name] != "appendix"]
    for case in store.cases("test"):
        _write_view(results, store, case, shown)
    return winner


def find_candidates(results: str, config: StudyConfig) -> list[Candidate]:
    """The best `num_finalists` checkpoints of 3D_FCN_PPM and the best one of each baseline, by best epoch.

    Raises:
        ResultsError: no trial of 3D_FCN_PPM has trained an epoch.
    """
    records = read_records(results)
    curves = read_curves(results, records)
    trained = [
        Candidate(record.network, record.name, max(epoch.objective for epoch in epochs))
        for record in records
        if (epochs := [epoch for epoch in curves[record.name] if not epoch.failure])
    ]
    trained.sort(key=lambda candidate: -candidate.objective)
    ours = [candidate for candidate in trained if candidate.network == OURS]
    if not ours:
        raise ResultsError(f"{results}: no trial of {OURS} has finished an epoch; each trials/*/trial.json says why")
    baselines = [
        next((candidate for candidate in trained if candidate.network == network), None)
        for network in config.search.baselines
    ]
    return ours[: config.final.num_finalists] + [baseline for baseline in baselines if baseline]


@dataclass(frozen=True)
class _Stage:
    config: StudyConfig
    results: str
    store: Store
    segment_all: Segmenter

    def measure(self, split: Split, candidate: Candidate) -> list[Row]:
        """The rows of a checkpoint over a split; read back where they have been written."""
        path = layout.part_path(self.results, split, candidate.name)
        if storage.exists(path):
            return read_parquet(path)
        cases = self.store.cases(split)
        if not cases:
            raise ResultsError(f"{self.store.path}: no {split} patients; prepare the store with some")
        final = self.config.final
        jobs = [SegmentJob(self.results, self.store.path, case, candidate, final) for case in cases]
        rows = [row for job_rows in self.segment_all(jobs) for row in job_rows]
        write_parquet(path, rows)
        return rows


def _fix_winner(results: str, candidates: Sequence[Candidate], validation: Sequence[Row]) -> str:
    path = layout.final_path(results, SELECTION)
    if storage.exists(path):
        return str(storage.read_json(path)["winner"])
    scores = {
        candidate.name: float(
            np.mean([r["dice"] for r in validation if r["checkpoint"] == candidate.name and r["stage"] == "final"])
        )
        for candidate in candidates
    }
    ours = [candidate.name for candidate in candidates if candidate.network == OURS]
    winner = max(ours, key=lambda name: scores[name])
    storage.write_json(path, {"winner": winner, "rule": "mean validation Dice of kidney and tumor", "scores": scores})
    return winner


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
