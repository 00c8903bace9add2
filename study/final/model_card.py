"""The model card of the winner: what it is, what it was trained on, how well it does, and what it is not."""

from pathlib import PurePosixPath
from typing import Any

import numpy as np
import yaml

from renalnet.data.localise.atlas import ATLAS_FILE, load_atlases
from renalnet.nets.bundle import CONFIG_FILE, member_folders, model_digest
from renalnet.runtime import storage
from study.final.stage import METRICS
from study.records import paths
from study.records.trials import read_parquet


def model_card(results: str) -> str:
    """The card, in Markdown, from the result files of a finished study."""
    manifest = storage.read_json(storage.join(results, paths.MANIFEST))
    winner, data = manifest["winner"], manifest["data"]
    rows = read_parquet(paths.final_path(results, METRICS))
    test = [r for r in rows if r["checkpoint"] == winner and r["split"] == "test" and r["stage"] == "final"]
    config = storage.read_json(storage.join(paths.best_folder(results), CONFIG_FILE))
    members = member_folders(paths.best_folder(results))
    return "\n".join(
        [
            *_front_matter(manifest, test),
            f"# 3D_FCN_PPM, {winner} of study '{manifest['study']}'",
            "",
            "Segments kidney (1) and renal tumor (2) in a region of interest of a contrast CT.",
            "Research software, not a medical device.",
            "",
            "## Uses",
            "",
            "- meant for: research on segmentation of kidney and tumor in arterial-phase contrast CT",
            "- not meant for: the care of patients; scans other than those under Data were not tested",
            "- how: `python -m renalnet predict CT --model THIS_FOLDER --out DIR`",
            "",
            "## Limitations",
            "",
            f"- no tumor was predicted for {_num_missed(test)} test patients who have one",
            "- a kidney that no atlas resembles is left out, and named",
            "",
            "## Data",
            "",
            f"- {PurePosixPath(data['source']).name}{' (synthetic images, not scans)' if data['synthetic'] else ''}",
            f"- patients: {', '.join(f'{number} {split}' for split, number in data['num_cases'].items())}",
            f"- ROI grid (z, y, x): {data['roi_spacing_mm']} mm",
            f"- fingerprint: {data['fingerprint']}",
            f"- atlases that find the kidneys: {_atlas_origin(results)}",
            *(f"- note: {note}" for note in data["notes"]),
            "",
            "## Test patients, after vote, CRF and connectivity",
            "",
            "| label | mean Dice | mean surface distance (mm) | patients |",
            "|---|---|---|---|",
            *(_row(label, test) for label in ("kidney", "tumor")),
            "",
            "## Training",
            "",
            *_ensemble(members),
            f"- pooling kernels {config['train']['net']['ppm_kernels']}, class weights {config['train']['loss']}",
            f"- learning-rate steps {config['train']['optim']['milestones']}, best epoch {config['epoch']}",
            f"- weights sha256 {', '.join(model_digest(member) for member in members)}",
            "",
        ]
    )


def _front_matter(manifest: dict[str, Any], test: list[dict[str, Any]]) -> list[str]:
    """Metadata as the Hugging Face hub reads it (its model-card specification)."""
    metrics = [
        {"type": "dice", "name": f"Dice {label}", "value": round(float(_mean(test, label, "dice")), 4)}
        for label in ("kidney", "tumor")
    ]
    data = manifest["data"]
    dataset = {"type": "synthetic" if data["synthetic"] else "own", "name": PurePosixPath(data["source"]).name}
    result = {"task": {"type": "image-segmentation"}, "dataset": dataset, "metrics": metrics}
    content = {
        "license": "other",
        "license_name": "of-whoever-trained-it",
        "library_name": "renalnet",
        "pipeline_tag": "image-segmentation",
        "tags": ["medical", "ct", "kidney", "kidney-tumor", "3d-segmentation"],
        "model-index": [{"name": f"3D_FCN_PPM {manifest['winner']}", "results": [result]}],
    }
    return ["---", yaml.safe_dump(content, sort_keys=False, allow_unicode=True).rstrip(), "---", ""]


def _num_missed(test: list[dict[str, Any]]) -> str:
    """`3 of 15`."""
    diseased = [row for row in test if row["label"] == "tumor" and not row["truth_empty"]]
    return f"{sum(row['pred_empty'] for row in diseased)} of {len(diseased)}"


def _mean(rows: list[dict[str, Any]], label: str, name: str) -> float:
    return float(np.mean([row[name] for row in rows if row["label"] == label]))


def _ensemble(members: list[str]) -> list[str]:
    """A line where more than one network votes."""
    seeds = [storage.read_json(storage.join(member, CONFIG_FILE))["train"]["seed"] for member in members]
    together = f"- {len(members)} networks of the seeds {', '.join(map(str, seeds))} vote in one ballot; the first:"
    return [together] if len(members) > 1 else []


def _row(label: str, rows: list[dict[str, Any]]) -> str:
    dice, distance = (_mean(rows, label, name) for name in ("dice", "surface_distance_mm"))
    return f"| {label} | {dice:.3f} | {distance:.2f} | {sum(row['label'] == label for row in rows)} |"


def _atlas_origin(results: str) -> str:
    path = storage.join(paths.best_folder(results), ATLAS_FILE)
    if not storage.exists(path):
        return "none; the model works on ROIs already cut"
    atlases = load_atlases(path)
    num_phantoms = sum(atlas.synthetic for atlas in atlases)
    return f"{len(atlases) - num_phantoms} from patients, {num_phantoms} from phantoms"
