"""A store as a raw data set of nnU-Net 2, so that nnU-Net trains on the same ROIs and is tested on the same cases.

    OUT/Dataset101_Kidney/dataset.json                 channel, labels, number of cases in imagesTr
    OUT/Dataset101_Kidney/imagesTr/CASE_0000.nii.gz    training and validation cases: int16 HU
    OUT/Dataset101_Kidney/labelsTr/CASE.nii.gz         their label maps: uint8, on the grid of the image
    OUT/Dataset101_Kidney/imagesTs, labelsTs           the test cases, likewise
    OUT/Dataset101_Kidney/splits_final.json            one fold: the training and the validation cases of the store

The rules are those of `documentation/dataset_format.md` and `documentation/manual_data_splits.md` of MIC-DKFZ/nnUNet.
nnU-Net reads the folds from its folder of preprocessed data. It does not read `labelsTs`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from renalnet.data.cases.names import FIRST_CHANNEL
from renalnet.data.images.volume import Volume, write_volume
from renalnet.data.store.reader import Roi, Store
from renalnet.errors import ConfigError, InputError
from renalnet.runtime import storage

FOLDS_FILE: Final = "splits_final.json"
"""Name of the file of folds, for which nnU-Net looks in its folder of preprocessed data."""
_ENDING: Final = ".nii.gz"
_MAX_NUMBER: Final = 999
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_IGNORED: Final = "ignore"
"""Name of a label whose voxels nnU-Net does not train on."""


def export_nnunet(
    store: Store, out: str | Path, number: int, name: str, progress: Callable[[int, int], None] = lambda *_: None
) -> str:
    """Write a store as the data set `OUT/DatasetNNN_NAME`. Return the path of this folder.

    The labels are those of the store: the values of a label set are 1, 2, 3 and so on, as nnU-Net requires. A store
    without validation cases gets no file of folds, and one without test cases no folder of them.

    Args:
        store: the store.
        out: local folder, which nnU-Net calls `nnUNet_raw`.
        number: number of the data set, 1 to 999.
        name: name of the data set, 1 to 40 letters, digits, hyphens and underscores.
        progress: called with (number of written cases, number of all cases) after each case.

    Raises:
        ConfigError: number or name break their rules, or `out` holds a data set of this number.
        InputError: the store has a label that nnU-Net would ignore, or `out` is on an object store.
        StoreError: the store is damaged.
        OSError: a file cannot be written.
    """
    folder = storage.join(out, _folder_name(out, number, name))
    _require_trainable(store)
    cases = store.cases()
    with storage.new_folder(folder) as staged:
        for done, case in enumerate(cases, start=1):
            _write_case(staged, store.read(case))
            progress(done, len(cases))
        if store.cases("validation"):
            storage.write_json(staged / FOLDS_FILE, [{"train": store.cases("train"), "val": store.cases("validation")}])
        storage.write_json(staged / "dataset.json", _description(store, name))
    return folder


def _folder_name(out: str | Path, number: int, name: str) -> str:
    if not 1 <= number <= _MAX_NUMBER:
        raise ConfigError(f"number {number} of the data set: must be 1 to {_MAX_NUMBER}; choose another --number")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name '{name:.80}' of the data set: must be 1 to 40 letters, digits, hyphens and underscores; choose "
            "another --name"
        )
    prefix = f"Dataset{number:03d}"
    taken = next((each for each in storage.list_names(out) if each.startswith(prefix)), None)
    if taken:
        raise ConfigError(
            f"{out}: holds {taken}, and nnU-Net knows a data set by its number; choose another --number, or remove it"
        )
    return f"{prefix}_{name}"


def _require_trainable(store: Store) -> None:
    if _IGNORED in store.labels:
        raise InputError(
            f"{store.path}: has a label '{_IGNORED}', whose voxels nnU-Net would not train on; rename it in the label "
            "set and prepare the store again"
        )


def _write_case(folder: Path, roi: Roi) -> None:
    part = "Ts" if roi.split == "test" else "Tr"
    write_volume(folder / f"images{part}" / f"{roi.case}_{FIRST_CHANNEL}{_ENDING}", Volume(roi.image, roi.grid))
    write_volume(folder / f"labels{part}" / f"{roi.case}{_ENDING}", Volume(roi.label, roi.grid))


def _description(store: Store, name: str) -> dict[str, Any]:
    kind = "synthetic ROIs" if store.manifest.synthetic else "ROIs"
    return {
        "channel_names": {"0": "CT"},  # by this name, nnU-Net normalises by the CT numbers of the labelled voxels
        "labels": {label: value for value, label in enumerate(store.labels.class_names)},
        "numTraining": len(store.cases("train")) + len(store.cases("validation")),
        "file_ending": _ENDING,
        "name": name,
        "description": f"{kind} of the renalnet store {store.fingerprint}, label set {store.labels.name}",
    }
