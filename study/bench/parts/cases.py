"""The cases of the ablation: a fixed subset of given label maps, painted, and prepared as a store for each grid."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from renalnet.config import KIDNEY_TUMOR, KITS23, PhantomConfig, PrepareConfig
from renalnet.config.presets import prepare_preset
from renalnet.config.section import Spacing
from renalnet.data.images.mask_files import read_source_mask
from renalnet.data.images.volume import Volume, write_volume
from renalnet.data.phantom import write_cohort
from renalnet.data.phantom.label_maps import MAP_ENDING, MAP_SPLITS, find_maps, painter_seed
from renalnet.data.prepare.preparation import local_pool, prepare
from renalnet.data.prepare.request import Request
from renalnet.data.store.reader import MANIFEST, Store, open_store
from renalnet.runtime import storage
from renalnet.types import Split
from study.bench.measuring.size import Size

_DRAWN: Final[tuple[Split, ...]] = ("train", "validation")


@dataclass(frozen=True)
class Maps:
    """Files of the label maps, by the names of their cases."""

    train: Mapping[str, Path]
    test: Mapping[str, Path]


def find_cases(size: Size) -> Maps:
    """Return the label maps of the ablation, the same for every seed and every part.

    Raises:
        InputError: there are no label maps, or two of them have one name.
    """
    found = find_maps([Path(folder) for folder in size.parts_maps], "--set parts_maps=[FOLDER,…]")
    return Maps(_subset(found["train"], size.parts_train), _subset(found["test"], size.parts_test))


def _subset(files: Mapping[str, Path], most: int) -> dict[str, Path]:
    """Return at most `most` of the files, sorted by name; 0 means all. A hash of the name decides."""
    order = sorted(files, key=lambda case: hashlib.sha256(case.encode()).hexdigest())
    return {case: files[case] for case in sorted(order[: most or None])}


def make_stores(
    work: Path, maps: Maps, size: Size, spacings: Sequence[Spacing | None], workers: int
) -> dict[Spacing | None, Store]:
    """Paint the cases, and return a store of each grid; what an interrupted run has made is not made again.

    Every store has the same cases in the same splits.

    Args:
        work: folder of the ablation.
        maps: label maps to paint around.
        size: preset of the grid, and seed of the painter.
        spacings: voxel spacing of each store; None for that of the preset. The first one draws the validation cases.
        workers: number of processes.
    """
    for split, files in zip(MAP_SPLITS, (maps.train, maps.test), strict=True):
        _paint(work, split, files, PhantomConfig(seed=painter_seed(size.parts_painter_seed, split)), workers)
    first, *others = dict.fromkeys(spacings)
    store = _prepared(work, _grid(size.parts_preset, first), None, workers)
    splits: dict[str, Split] = {case: split for split in _DRAWN for case in store.cases(split)}
    more = {spacing: _prepared(work, _grid(size.parts_preset, spacing), splits, workers) for spacing in others}
    return {first: store, **more}


def _paint(work: Path, split: str, files: Mapping[str, Path], config: PhantomConfig, workers: int) -> None:
    maps = work / "maps" / split
    for case, file in files.items():
        target = maps / f"{case}{MAP_ENDING}"
        if not target.exists():
            maps.mkdir(parents=True, exist_ok=True)
            write_volume(target, _without_cysts(file))
    write_cohort(work / "cohort" / split, config, labels_dir=maps, workers=workers)


def _without_cysts(file: Path) -> Volume:
    """Return a label map of kidney and tumor. A cyst becomes kidney, as it is a part of the organ in KiTS19."""
    volume = read_source_mask(file, KITS23)
    is_kept = volume.array <= KIDNEY_TUMOR.tumor.value
    return Volume(np.where(is_kept, volume.array, np.uint8(KIDNEY_TUMOR.kidney.value)), volume.grid)


def _grid(preset: str, spacing_mm: Spacing | None) -> PrepareConfig:
    config = prepare_preset(preset)
    # The label maps are cut to a kidney each, so that nothing has to be localised.
    known = {"localise": "cut", "num_atlases": 1, "localiser_steps": 0}
    return config.model_copy(update={**known, "spacing_mm": spacing_mm or config.spacing_mm})


def _prepared(work: Path, config: PrepareConfig, splits: Mapping[str, Split] | None, workers: int) -> Store:
    assert config.spacing_mm is not None, "a preset has a grid"
    out = work / f"store-{'x'.join(f'{mm:g}' for mm in config.spacing_mm)}"
    if not storage.exists(out / MANIFEST):
        cohort = work / "cohort"
        request = Request(cohort / "train", out, config, test_src=cohort / "test", splits=splits)
        with local_pool(workers) as pool:
            prepare(request, pool)
    return open_store(str(out))
