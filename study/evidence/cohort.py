"""The cohort of the evidence: scans painted on the label maps of several collections, and their store."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from renalnet.config import KIDNEY_TUMOR, KITS23
from renalnet.data.images.mask_files import read_source_mask
from renalnet.data.phantom import write_cohort
from renalnet.data.phantom.label_maps import MAP_ENDING, MAP_SPLITS
from renalnet.data.phantom.painter import paint_labels
from renalnet.data.prepare.preparation import local_pool, prepare
from renalnet.data.prepare.request import Request
from renalnet.errors import InputError
from renalnet.runtime.machine import num_cores
from renalnet.types import Split
from study.config.sections import StudyConfig
from study.evidence.plan import Work, painter

_CYST_AS_KIDNEY: Final = {KITS23["cyst"].value: KIDNEY_TUMOR.kidney.value}
"""Labels of a store with the default label set: cysts are painted as cysts, and labelled as kidney as in KiTS19."""


def link_maps(maps: Mapping[Split, Mapping[str, Path]], work: Work) -> None:
    """Link the label maps of all collections into one folder for each split.

    Raises:
        InputError: the folder has links of other maps.
    """
    for split, files in maps.items():
        folder = work.maps(split)
        folder.mkdir(parents=True, exist_ok=True)
        known = {path.name.removesuffix(MAP_ENDING): path.readlink() for path in folder.iterdir()}
        if any(files.get(case) != target for case, target in known.items()):
            raise InputError(f"{work.folder}: was begun with other label maps; choose another folder with --work")
        for case in files.keys() - known.keys():
            (folder / f"{case}{MAP_ENDING}").symlink_to(files[case])


def paint(config: StudyConfig, work: Work, progress: Callable[[Split, int, int], None]) -> None:
    """Paint a scan on each label map; scans that an earlier call has painted are kept.

    Args:
        config: the whole study.
        work: its folder, with links to the maps.
        progress: called with the split, the number of finished scans and the number of all scans after each scan.

    Raises:
        InputError: a label map cannot be used, or the folder has scans of another painter.
    """
    for split in MAP_SPLITS:

        def show(done: int, total: int, split: Split = split) -> None:
            progress(split, done, total)

        write_cohort(work.cohort(split), painter(config, split), work.maps(split), show, num_cores())


def painting_seconds(config: StudyConfig, maps: Mapping[Split, Mapping[str, Path]]) -> float:
    """Return the expected time of painting all maps, from the time of the first one."""
    phantom = painter(config, "train")
    first = next(iter(maps["train"].values()))
    began = time.monotonic()
    paint_labels(read_source_mask(first, phantom.labels), phantom, 0)
    return (time.monotonic() - began) * sum(map(len, maps.values())) / num_cores()


def prepare_store(config: StudyConfig, work: Work) -> None:
    """Write the store of all scans; those on test maps are its test cases.

    Raises:
        InputError: a scan cannot be used.
    """
    train, test = (work.cohort(split) for split in MAP_SPLITS)
    label_map = _CYST_AS_KIDNEY if config.labels == KIDNEY_TUMOR else None
    with local_pool(num_cores()) as pool:
        prepare(Request(train, work.store, config.prepare, test_src=test, label_map=label_map), pool)
