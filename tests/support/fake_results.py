"""A small results folder with invented numbers and shapes, which are plausible but were not measured."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from renalnet.config import KIDNEY_TUMOR, LabelSet
from renalnet.config.label_columns import flat
from renalnet.evaluation.mask_quality import Signs
from renalnet.planning import find_kidneys, measure_kidney, measures_of

MARKUP_CASE = "case_<b>bold"
CASES = [
    "case_00001",
    "case_00002",
    "case_00003",
    MARKUP_CASE,
    "case_00005",
    "case_00006",
    "healthy_1",
    "healthy_2",
]
SHAPE = (14, 40, 44)
SPACING_MM = (3.0, 1.3, 1.3)
WINNER = "fcn_ppm-0001"
IMPLAUSIBLE = "kidney of 952.0 ml, outside the plausible range of 30 to 400 ml; check the mask"
"""Warning of the winner's mask of one case. The sheets of the ellipsoids, which are smaller than kidneys, have none."""
_QUALITY = {"fcn_ppm": 0.86, "unet3d": 0.78, "pspnet2d": 0.66, "threshold_roi": 0.12, "threshold_inside": 0.5}
_NUM_WITH_CYST = 4
"""Number of the first cases that have a cyst, in a study with cysts."""
_CYST_DICE = {"fcn_ppm": (0.8, 0.6, 0.6, 0.0, 1.0, 1.0, 1.0, 0.0), "unet3d": (0.4, 0.4, 0.4, 0.4, 1.0, 1.0, 1.0, 1.0)}
"""Dice of a cyst in each case. Other methods predict no cyst."""
_CHECKPOINTS = {"fcn_ppm": WINNER, "unet3d": "unet3d-0006", "pspnet2d": "pspnet2d-0007"}


@dataclass(frozen=True)
class FakeTrial:
    """Values that differ between trials."""

    network: str
    state: str
    kernels: str
    milestones: str
    tumor: float
    epochs: int


TRIALS = [
    FakeTrial("fcn_ppm", "complete", "2-4-8-16", "3-5-7", 2.0, 9),
    FakeTrial("fcn_ppm", "complete", "1-2-4-8", "4-7", 3.1, 9),
    FakeTrial("fcn_ppm", "pruned", "2-4", "3-5-7", 1.2, 3),
    FakeTrial("fcn_ppm", "pruned", "1-2-4-8", "4-7", 4.0, 1),
    FakeTrial("fcn_ppm", "failed", "2-4-8-16", "4-7", 2.4, 0),
    FakeTrial("fcn_ppm", "complete", "2-4", "4-7", 2.7, 9),
    FakeTrial("unet3d", "complete", "", "3-5-7", 2.0, 9),
    FakeTrial("pspnet2d", "complete", "", "3-5-7", 2.0, 9),
]


def write_manifest(folder: Path, **changes: Any) -> None:
    """Write a manifest with some values replaced."""
    content = {
        "study": "quick",
        "created": "2024-05-04T10:20:30+00:00",
        "config": {"search": {"num_trials": 8, "grace_epochs": 2, "reduction_factor": 3}},
        "config_fingerprint": "0123456789abcdef",
        "data": {
            "source": "synthetic phantoms",
            "fingerprint": "feedc0de",
            "synthetic": True,
            "num_cases": {"train": 16, "validation": 4, "test": len(CASES)},
            "roi_spacing_mm": [3.0, 1.3, 1.3],
            "notes": ["tumors vary in contrast"],
        },
        "versions": {"renalnet": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "ray": None},
        "machine": {"num_cpus": 2, "num_gpus": 0, "device": "cpu"},
        "seeds": {"study": 0, "cohort": 7},
        "durations_s": {"phantom": 21.0, "prepare": 43.0, "search": 301.5, "final": 88.0},
        "command": "python -m study.run --preset quick --results results/quick",
        "warnings": [],
        "finished": True,
    }
    (folder / "manifest.json").write_text(json.dumps(content | changes))


def trial_name(index: int) -> str:
    """Return the name of the trial at an index of `TRIALS`."""
    return f"{TRIALS[index].network}-{index:04d}"


def trial_rows(labels: LabelSet = KIDNEY_TUMOR) -> list[dict[str, Any]]:
    """Return rows of `trials.parquet`: complete, pruned and failed trials."""
    rows = []
    for index, trial in enumerate(TRIALS):
        scored = trial.epochs > 0
        weights = {"tumor": trial.tumor, "kidney": 1.0 + 0.1 * index, "background": 0.2, "cyst": 2.5}
        rows.append(
            {
                "trial": index,
                "name": trial_name(index),
                "network": trial.network,
                "state": trial.state,
                "objective": _objective(index, trial.epochs) if scored else None,
                "best_epoch": trial.epochs if scored else None,
                "epochs": trial.epochs,
                "planned_epochs": 9,
                "seconds": 12.0 * trial.epochs,
                "gpu_hours": 0.0,
                "cpu_hours": 0.25,
                "reason": "RuntimeError: <i>out of memory</i>" if trial.state == "failed" else "all epochs done",
                "is_paper_point": index == 0,
                "ppm_kernels": trial.kernels,
                **{f"weight_{name}": weights[name] for name in reversed(labels.class_names)},
                "milestones": trial.milestones,
                "config": json.dumps({"loss": {"tumor": trial.tumor}}),
            }
        )
    return rows


def _objective(index: int, epoch: int) -> float:
    ceiling = 0.9 if index == 1 else 0.85 - 0.03 * index
    return round(ceiling * (1 - 0.6**epoch), 4)


def curve_rows(labels: LabelSet = KIDNEY_TUMOR) -> list[dict[str, Any]]:
    """Return rows of `curves.parquet`."""
    return [
        {
            "trial": index,
            "name": trial_name(index),
            "network": trial.network,
            "epoch": epoch,
            "loss": 1.0 / epoch,
            **{f"dice_{name}": _objective(index, epoch) for name in labels.names},
            "objective": _objective(index, epoch),
            "learning_rate": 0.001,
            "seconds": 12.0,
        }
        for index, trial in enumerate(TRIALS)
        for epoch in range(1, trial.epochs + 1)
    ]


def metric_row(case: str, network: str, label: str, dice: float, **changes: Any) -> dict[str, Any]:
    """Return a row of `final/metrics.parquet`, by default of a test case after the final stage."""
    roles = {"fcn_ppm": "winner", "unet3d": "baseline", "pspnet2d": "baseline"}
    is_empty = label == "tumor" and case.startswith("healthy")
    row = {
        "case": case,
        "split": "test",
        "network": network,
        "checkpoint": _CHECKPOINTS.get(network, ""),
        "role": roles.get(network, "rule"),
        "stage": "final",
        "label": label,
        "dice": dice,
        "surface_distance_mm": 8 * (1 - dice),
        "surface_distance_px": 5 * (1 - dice),
        "hd95_mm": 30 * (1 - dice),
        "surface_dice": dice,
        "volume_truth_ml": 0.0 if is_empty else 3.0 * 2.2 ** (CASES.index(case) if case in CASES else 0),
        "volume_pred_ml": 0.0 if is_empty and dice == 1 else 20.0,
        "true_positive": 0 if is_empty else round(1000 * dice),
        "false_positive": 0 if is_empty and dice == 1 else 50,
        "false_negative": 0 if is_empty else round(1000 * (1 - dice)),
        "true_negative": 20000,
        "truth_empty": is_empty,
        "pred_empty": is_empty and dice == 1,
        "found": None if is_empty or label == "kidney" else dice > 0.2,
    }
    return row | changes


def metric_rows() -> list[dict[str, Any]]:
    """Return rows of `final/metrics.parquet`: stages of winner and baselines, rules, appendix, validation cases."""
    generator = np.random.default_rng(5)
    rows = []
    for case in CASES:
        for network, quality in _QUALITY.items():
            kidney = float(np.clip(quality + 0.08 + generator.normal(0, 0.02), 0, 0.97))
            tumor = float(np.clip(quality + generator.normal(0, 0.12), 0, 0.97))
            if case.startswith("healthy"):
                tumor = 0.0 if network.startswith("threshold") or (network, case) == ("unet3d", "healthy_2") else 1.0
            for stage, loss in {"network": 0.05, "crf": 0.02, "final": 0.0}.items():
                if stage == "final" or not network.startswith("threshold"):
                    healthy = case.startswith("healthy")
                    rows.append(metric_row(case, network, "kidney", kidney - loss, stage=stage))
                    lowered = tumor if healthy else max(0.0, tumor - loss)
                    rows.append(metric_row(case, network, "tumor", lowered, stage=stage))
        appendix = {"role": "appendix", "checkpoint": "fcn_ppm-0000"}
        rows += [metric_row(case, "fcn_ppm", label, 0.8, **appendix) for label in ("kidney", "tumor")]
    for label in ("kidney", "tumor"):
        for checkpoint, dice, role in ((WINNER, 0.87, "winner"), ("fcn_ppm-0000", 0.84, "appendix")):
            values = {"split": "validation", "checkpoint": checkpoint, "role": role}
            rows.append(metric_row("case_00099", "fcn_ppm", label, dice, **values))
    return rows


def cyst_rows() -> list[dict[str, Any]]:
    """Return rows of a cyst for `final/metrics.parquet`, one for each row of a tumor in `metric_rows`.

    The winner finds three of four cysts, and predicts one in a case that has none.
    """
    tumors = [row for row in metric_rows() if row["label"] == "tumor"]
    return [_cyst_row(row, CASES.index(row["case"]) if row["case"] in CASES else 0) for row in tumors]


def _cyst_row(tumor: dict[str, Any], place: int) -> dict[str, Any]:
    is_present = place < _NUM_WITH_CYST
    dice = _CYST_DICE[tumor["network"]][place] if tumor["network"] in _CYST_DICE else float(not is_present)
    pred_empty = dice == (0 if is_present else 1)
    kept = {name: tumor[name] for name in ("split", "checkpoint", "role", "stage")}
    changes = {
        "volume_truth_ml": 4.0 * is_present,
        "volume_pred_ml": 0.0 if pred_empty else 5.0,
        "true_positive": round(1000 * dice) * is_present,
        "false_negative": round(1000 * (1 - dice)) * is_present,
        "truth_empty": not is_present,
        "pred_empty": pred_empty,
        "found": dice > 0.2 if is_present else None,
    }
    return metric_row(tumor["case"], tumor["network"], "cyst", dice, **kept, **changes)


def quality_rows() -> list[dict[str, Any]]:
    """Return rows of `final/quality.parquet`; the estimate is good for all cases but the last one."""
    rows = [{"case": case, "split": "test", "expected_dice": 0.9 - 0.05 * i} for i, case in enumerate(CASES)]
    rows.append({"case": "case_00099", "split": "validation", "expected_dice": 0.8})
    names = [each.name for each in fields(Signs)]
    signs = {**dict.fromkeys(names, 0.5), "entropy_bits": 0.2, "expected_dice_tumor": 0.6, "agreement": 0.7}
    return [{**row, "checkpoint": WINNER, "expected_error": 0.1, "num_known": 9, **signs} for row in rows]


SPACE = {"tumor_weight": [0.5, 8.0], "kernel_sets": [[1, 2, 4, 8], [2, 4, 8], []], "first_step": [2, 5]}
"""The search space of the study, as its manifest keeps it."""


def importance_rows() -> list[dict[str, Any]]:
    """Return rows of `importances.parquet`: weight and kernels are important, the milestone is not."""
    about = {"network": "fcn_ppm", "evaluator": "epsilon squared of ranks", "num_trials": 24}
    values = {
        "tumor_weight": (0.6, 0.4, 0.8, 0.001, "important"),
        "ppm_kernels": (0.3, 0.1, 0.5, 0.012, "important"),
        "first_step": (0.1, 0.0, 0.3, 0.4, "not shown to be important"),
    }
    names = ("importance", "low", "high", "p_value", "verdict")
    return [
        {**about, "parameter": parameter, "needed_trials": 20, **dict(zip(names, row, strict=True))}
        for parameter, row in values.items()
    ]


def effect_rows() -> list[dict[str, Any]]:
    """Return rows of `effects.parquet`; two trials have no pooling, too few for an interval."""
    groups: tuple[tuple[str, str, float | None, float | None, float, float | None, float | None, int], ...] = (
        ("tumor_weight", "0.52 to 1.9", 0.52, 1.9, 0.4, 0.36, 0.44, 8),
        ("tumor_weight", "2.03 to 3.71", 2.0312, 3.71, 0.6, 0.56, 0.64, 8),
        ("tumor_weight", "3.9 to 7.8", 3.9, 7.8, 0.62, 0.57, 0.67, 8),
        ("ppm_kernels", "1-2-4-8", None, None, 0.62, 0.58, 0.66, 12),
        ("ppm_kernels", "2-4-8", None, None, 0.5, 0.46, 0.54, 10),
        ("ppm_kernels", "none", None, None, 0.3, None, None, 2),
        ("first_step", "2", 2.0, 2.0, 0.5, 0.45, 0.55, 12),
        ("first_step", "5", 5.0, 5.0, 0.6, 0.56, 0.64, 12),
    )
    names = ("parameter", "group", "group_low", "group_high", "mean_objective", "low", "high", "num_trials")
    return [{"network": "fcn_ppm", "num_pruned": 3, **dict(zip(names, row, strict=True))} for row in groups]


def interaction_rows() -> list[dict[str, Any]]:
    """Return rows of `interactions.parquet`: weight by kernels, without the cells of few trials."""
    pair = {"network": "fcn_ppm", "first": "tumor_weight", "second": "ppm_kernels", "share": 0.08, "p_value": 0.04}
    cells = {
        ("0.52 to 1.9", "1-2-4-8"): 0.45,
        ("0.52 to 1.9", "2-4-8"): 0.35,
        ("2.03 to 3.71", "1-2-4-8"): 0.65,
        ("2.03 to 3.71", "2-4-8"): 0.5,
    }
    return [
        {
            **pair,
            "first_group": first,
            "second_group": second,
            "mean_objective": mean,
            "low": mean - 0.05,
            "high": mean + 0.05,
            "num_trials": 4,
        }
        for (first, second), mean in cells.items()
    ]


def plan_rows(labels: LabelSet = KIDNEY_TUMOR) -> list[dict[str, Any]]:
    """Return rows of `final/plan.parquet`, measured on the views."""
    rows = []
    for index, case in enumerate(CASES):
        truth = _ellipsoids(index, labels, healthy=case.startswith("healthy"))
        for source, mask in (("truth", truth), ("prediction", np.roll(truth, 1, axis=2))):
            sheets = [measure_kidney(kidney) for kidney in find_kidneys(mask, SPACING_MM, labels)]
            warnings = IMPLAUSIBLE if (case, source) == (CASES[1], "prediction") else ""
            rows += [
                {"case": case, "source": source, **flat(measures_of(sheet)), "warnings": warnings} for sheet in sheets
            ]
    return rows


def repeat_rows() -> list[dict[str, Any]]:
    """Return rows of `trials.parquet` for repeats of the two best trials: one seed and one fold each, one failed."""
    first, second = (row for row in trial_rows() if row["name"] in (WINNER, "fcn_ppm-0000"))
    kinds = (("seed-1", {"seed": 1}), ("fold-0-of-2", {"seed": 0, "fold": 0}))
    return [
        {**row, "name": f"{row['name']}-{kind}", "repeat_of": row["name"], "state": state, **about}
        for row, states in ((first, ("complete", "complete")), (second, ("complete", "failed")))
        for (kind, about), state in zip(kinds, states, strict=True)
    ]


def selection() -> dict[str, Any]:
    """Return `final/selection.json` of a study with these repeats."""
    seeds = {"mean": 0.81, "sd": 0.014, "num": 2}
    folds = {"mean": 0.75, "sd": None, "num": 1}
    return {
        "winner": WINNER,
        "scores": {WINNER: 0.87, "fcn_ppm-0000": 0.84},
        "candidates": {WINNER: {"over_seeds": seeds, "over_folds": folds, "members": [WINNER, f"{WINNER}-seed-1"]}},
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_views(folder: Path, labels: LabelSet = KIDNEY_TUMOR) -> None:
    """Write views with ellipsoidal kidneys, a round tumor, and predictions that are shifted a little."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(3)
    for index, case in enumerate(CASES):
        truth = _ellipsoids(index, labels, healthy=case.startswith("healthy"))
        image = np.clip(70 + 90 * (truth == 1) + 50 * (truth == 2) + generator.normal(0, 12, SHAPE), 0, 255)
        predictions: dict[str, Any] = {
            f"pred_{name}": np.roll(truth, shift, axis=2) for shift, name in enumerate(_CHECKPOINTS, 1)
        }
        np.savez_compressed(
            folder / f"{case}.npz",
            image=image.astype(np.uint8),
            truth=truth,
            spacing_mm=np.array(SPACING_MM),
            **predictions,
        )


def _ellipsoids(index: int, labels: LabelSet, *, healthy: bool) -> np.ndarray:
    z, y, x = np.indices(SHAPE)
    kidney = ((z - 7) / 6) ** 2 + ((y - 20) / 13) ** 2 + ((x - 22) / 10) ** 2 < 1
    tumor = ((z - 7) / 3) ** 2 + ((y - 12) / (2 + index)) ** 2 + ((x - 26) / (2 + index)) ** 2 < 1
    found = np.where(tumor & (not healthy), 2, kidney).astype(np.uint8)
    if "cyst" in labels and index < _NUM_WITH_CYST:
        found[(((z - 7) / 2) ** 2 + ((y - 27) / 3) ** 2 + ((x - 20) / 3) ** 2) < 1] = labels["cyst"].value
    return found


def write_study(folder: Path, labels: LabelSet = KIDNEY_TUMOR) -> None:
    """Write a finished study into a folder, which may be new; with `KITS23`, some cases have a cyst."""
    folder.mkdir(parents=True, exist_ok=True)
    search = {"num_trials": 8, "grace_epochs": 2, "reduction_factor": 3}
    named = {} if labels == KIDNEY_TUMOR else {"labels": labels.model_dump(mode="json")}
    write_manifest(folder, config={"search": search, "space": SPACE, **named})
    write_rows(folder / "trials.parquet", trial_rows(labels))
    write_rows(folder / "curves.parquet", curve_rows(labels))
    write_rows(folder / "final" / "metrics.parquet", metric_rows() + (cyst_rows() if "cyst" in labels else []))
    write_rows(folder / "importances.parquet", importance_rows())
    write_rows(folder / "effects.parquet", effect_rows())
    write_rows(folder / "interactions.parquet", interaction_rows())
    write_rows(folder / "final" / "quality.parquet", quality_rows())
    write_rows(folder / "final" / "plan.parquet", plan_rows(labels))
    write_views(folder / "final" / "views", labels)
