"""The model card of the winner: its uses and limitations, its data, its results on the test cases, its training."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import yaml

from renalnet.config import KIDNEY_TUMOR, LabelSet, TrainConfig, label_set
from renalnet.config.labels import TUMOR, listed
from renalnet.data.localise.atlas import ATLAS_FILE, load_atlases
from renalnet.inference.post_processing import FINAL
from renalnet.nets.bundle import member_folders, model_digest, read_config
from renalnet.runtime import storage
from study.final.headline import Headline, failures, headline_of
from study.records.results import Results
from study.records.tables import Measurement


def model_card(results: Results, bundle: str, winner: str) -> str:
    """Return the card in Markdown.

    Args:
        results: the results folder of a study whose test cases are measured.
        bundle: folder of the winner's bundle.
        winner: name of the winner.
    """
    manifest = storage.read_json(results.manifest_path)
    measurements = results.measurements() or []
    labels = label_set(manifest["config"].get("labels", KIDNEY_TUMOR))
    test = [row for row in measurements if (row.checkpoint, row.split, row.stage) == (winner, "test", FINAL)]
    return "\n".join(
        [
            *_front_matter(manifest, winner, test, labels),
            f"# 3D_FCN_PPM, {winner} of study '{manifest['study']}'",
            "",
            f"Segments {_valued(labels)} in a region of interest of a contrast CT.",
            "Research software, not a medical device.",
            "",
            *_failures(test, labels),
            *_uses(labels),
            *_limitations(test, labels),
            *_data(manifest["data"], _atlas_origin(bundle)),
            *_results(test, _used_operations(bundle), labels),
            *_training(bundle),
        ]
    )


def _front_matter(manifest: dict[str, Any], winner: str, test: Sequence[Measurement], labels: LabelSet) -> list[str]:
    """Return the metadata that the Hugging Face hub reads (see its model-card specification)."""
    headlines = [headline_of(test, lesion) for lesion in labels.lesions]
    names = [label.name for label in labels.labels if label not in labels.lesions]
    metrics = [
        *({"type": "dice", "name": f"Dice {name}", "value": round(_mean(test, name, "dice"), 4)} for name in names),
        *(metric for headline in headlines for metric in _lesion_metrics(headline)),
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
        "model-index": [{"name": f"3D_FCN_PPM {winner}", "results": [result]}],
    }
    return ["---", yaml.safe_dump(content, sort_keys=False, allow_unicode=True).rstrip(), "---", ""]


def _lesion_metrics(headline: Headline) -> list[dict[str, Any]]:
    """Return Dice and sensitivity over the cases with the lesion, and the specificity, each where it is defined."""
    name = headline.lesion.name
    found: list[dict[str, Any]] = []
    if headline.dice is not None:
        share = headline.num_found / headline.num_with
        found.append({"type": "dice", "name": f"Dice {name}, cases with one", "value": round(headline.dice, 4)})
        found.append({"type": "recall", "name": f"Sensitivity {name}", "value": round(share, 4)})
    if headline.num_without:
        share = 1 - headline.num_alarms / headline.num_without
        found.append({"type": "specificity", "name": f"Specificity {name}", "value": round(share, 4)})
    return found


def _failures(test: Sequence[Measurement], labels: LabelSet) -> list[str]:
    return [line for failure in failures(test, labels) for line in (f"**Warning: {failure}.**", "")]


def _valued(labels: LabelSet) -> str:
    titles = {TUMOR: "renal tumor"}
    return listed([f"{titles.get(label.name, label.title)} ({label.value})" for label in labels.labels])


def _uses(labels: LabelSet) -> list[str]:
    what = listed([label.title for label in labels.labels])
    return [
        "## Uses",
        "",
        f"- intended for: research on segmentation of {what} in contrast CT of the kind described under Data",
        "- not intended for: the care of patients; other scans than those under Data were not tested",
        "- how: `python -m renalnet predict CT --model THIS_FOLDER --out DIR`",
        "",
    ]


def _limitations(test: Sequence[Measurement], labels: LabelSet) -> list[str]:
    return [
        "## Limitations",
        "",
        *(f"- {headline_of(test, lesion).text}" for lesion in labels.lesions),
        "- a kidney that resembles no atlas is left out, and named",
        "",
    ]


def _data(data: dict[str, Any], atlas_origin: str) -> list[str]:
    return [
        "## Data",
        "",
        f"- {PurePosixPath(data['source']).name}{' (synthetic images, not scans)' if data['synthetic'] else ''}",
        f"- cases: {', '.join(f'{number} {split}' for split, number in data['num_cases'].items())}",
        f"- ROI grid (z, y, x): {data['roi_spacing_mm']} mm",
        f"- fingerprint: {data['fingerprint']}",
        f"- atlases that find the kidneys: {atlas_origin}",
        *(f"- note: {note}" for note in data["notes"]),
        "",
    ]


def _results(test: Sequence[Measurement], operations: str, labels: LabelSet) -> list[str]:
    return [
        "## Test cases, after the whole inference",
        "",
        f"- post-processing: {operations}",
        "",
        "| label | mean Dice | mean surface distance (mm) | cases |",
        "|---|---|---|---|",
        *(_row(label.name, test) for label in labels.labels if label not in labels.lesions),
        *(_lesion_row(headline_of(test, lesion)) for lesion in labels.lesions),
        "",
    ]


def _used_operations(bundle: str) -> str:
    """Return the titles of the operations that the model bundle states as used."""
    operations = read_config(bundle).inference.operations.values()
    return ", ".join(each.title for each in operations if each.is_on) or "none"


def _row(label: str, test: Sequence[Measurement]) -> str:
    dice = _mean(test, label, "dice")
    distance_mm = _mean(test, label, "surface_distance_mm")
    return f"| {label} | {dice:.3f} | {distance_mm:.2f} | {sum(row.label == label for row in test)} |"


def _lesion_row(headline: Headline) -> str:
    name = f"{headline.lesion.name}, cases with one"
    if headline.dice is None or headline.distance_mm is None:
        return f"| {name} | – | – | 0 |"
    return f"| {name} | {headline.dice:.3f} | {headline.distance_mm:.2f} | {headline.num_with} |"


def _mean(rows: Sequence[Measurement], label: str, name: str) -> float:
    return float(np.mean([getattr(row, name) for row in rows if row.label == label]))


def _training(bundle: str) -> list[str]:
    config = read_config(bundle)
    train = config.train
    members = member_folders(bundle)
    return [
        "## Training",
        "",
        *_ensemble(members),
        f"- pooling kernels {list(train.net.ppm_kernels)}, class weights {train.loss.model_dump(mode='json')}",
        f"- milestones {list(train.optim.milestones)}, best epoch {config.epoch}",
        *_init(train),
        f"- weights sha256 {', '.join(model_digest(member) for member in members)}",
        "",
    ]


def _init(train: TrainConfig) -> list[str]:
    """Return one line if the training began with the weights of a bundle; empty otherwise."""
    return [f"- began with the weights of {train.init}, sha256 {train.init_sha256}"] if train.init else []


def _ensemble(members: Sequence[str]) -> list[str]:
    """Return one line if more than one network votes; empty otherwise."""
    seeds = [read_config(member).train.seed for member in members]
    together = f"- {len(members)} networks of the seeds {', '.join(map(str, seeds))} vote together; the first one:"
    return [together] if len(members) > 1 else []


def _atlas_origin(bundle: str) -> str:
    path = storage.join(bundle, ATLAS_FILE)
    if not storage.exists(path):
        return "none; the model works on ROIs already cut"
    atlases = load_atlases(path)
    num_phantoms = sum(atlas.synthetic for atlas in atlases)
    return f"{len(atlases) - num_phantoms} from scans, {num_phantoms} from phantoms"
