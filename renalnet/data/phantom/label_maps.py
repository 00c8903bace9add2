"""Collections of given label maps to paint scans on: folders with label maps in `train` and in `test`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from renalnet.errors import InputError
from renalnet.types import Split

MAPS_VARIABLE: Final = "RENALNET_TEST_DATA"
"""Environment variable that names the folder of the collections where none is named."""
MAP_ENDING: Final = ".nii.gz"
MAP_SPLITS: Final[tuple[Split, Split]] = ("train", "test")


def find_maps(folders: Sequence[Path], option: str) -> dict[Split, dict[str, Path]]:
    """Return the label maps of all collections by split and case. A test map stays a test case.

    Args:
        folders: collections, each with the folders `train` and `test`. Empty: those in the folder that the environment
            variable RENALNET_TEST_DATA names.
        option: what names the folders on the command line, for messages.

    Raises:
        InputError: there is no collection, one has no map in a split, or two maps have one name.
    """
    maps: dict[Split, dict[str, Path]] = {split: {} for split in MAP_SPLITS}
    known: dict[str, Path] = {}
    for folder in folders or _given_folders(option):
        for split in MAP_SPLITS:
            files = sorted((folder / split).glob(f"*{MAP_ENDING}"))
            if not files:
                raise InputError(f"{folder / split}: holds no *{MAP_ENDING} map; name a folder with train and test")
            for file in files:
                case = file.name.removesuffix(MAP_ENDING)
                if case in known:
                    raise InputError(f"{file}: another map has this name, {known[case]}; rename one of them")
                known[case] = maps[split][case] = file.absolute()
    return maps


def _given_folders(option: str) -> list[Path]:
    data = os.environ.get(MAPS_VARIABLE)
    if not data:
        raise InputError(
            f"no label maps: name their folders with {option}, or the folder above them in {MAPS_VARIABLE}"
        )
    found = [path for path in sorted(Path(data).glob("*")) if all((path / split).is_dir() for split in MAP_SPLITS)]
    if not found:
        raise InputError(f"{data}: holds no folder with train and test; name the folders of label maps with {option}")
    return found


def painter_seed(seed: int, split: Split) -> int:
    """Return the painter's seed of `train` or `test`, which no other seed and split share.

    Scans of one seed and number have contrast phase, build and noise in common, so the splits must not share a seed.
    """
    return len(MAP_SPLITS) * seed + MAP_SPLITS.index(split)
