"""The ablation from end to end: paint, train, measure the validation cases, choose, then read the test cases once."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

from renalnet.data.store.reader import Store
from renalnet.errors import ResultsError
from renalnet.evaluation.part_effects import ALL_CASES, PartEffect, interval_text
from renalnet.nets.describe import describe
from renalnet.runtime import storage
from renalnet.runtime.csv_text import to_csv
from renalnet.runtime.lease import Lease
from renalnet.runtime.log import get_logger
from renalnet.runtime.machine import num_cores
from renalnet.train.epochs import LOG_FILE, EpochRecord
from study.bench.measuring.size import Size
from study.bench.measuring.table import TABLE, Row
from study.bench.parts.cases import Maps, find_cases, make_stores
from study.bench.parts.catalogue import REFERENCE, Part, all_parts, chosen_parts, config_of, readings_of
from study.bench.parts.effects import Cost, Table, choose, effects
from study.bench.parts.runs import Run, finish, new_pool, scores
from study.bench.parts.traits import subsets, traits

IDENTITY_FILE: Final = "ablation.json"
CHOICE_FILE: Final = "choice.json"
_log = get_logger(__name__)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Yield the effect of each part on the test cases. The table of all effects is written into `folder`.

    Everything that takes long is kept in `size.parts_work`, if it is set, and a killed ablation goes on from there.

    Raises:
        ConfigError: a part is unknown.
        InputError: there are no label maps.
        ResultsError: the work folder holds another ablation, or a run failed.
    """
    parts = chosen_parts(size)
    maps = find_cases(size)
    work = Path(size.parts_work or folder / "parts")
    with Lease(str(work / ".lease")):
        _claim(work, _identity(size, maps))
        found = list(_measured(size, parts, maps, work))
    storage.write_bytes(folder / TABLE, to_csv([asdict(effect) for effect in found]))
    yield from (_row(effect) for effect in found if effect.split == "test" and effect.cases == ALL_CASES)


def _identity(size: Size, maps: Maps) -> dict[str, Any]:
    """Return everything that decides the Dice of a part. Further parts and seeds may be added later."""
    names = ("parts_preset", "parts_epochs", "parts_steps", "parts_painter_seed")
    values = size.model_dump(mode="json")
    return {**{name: values[name] for name in names}, "train": list(maps.train), "test": list(maps.test)}


def _claim(work: Path, identity: Mapping[str, Any]) -> None:
    path = work / IDENTITY_FILE
    if not path.exists():
        storage.write_json(path, identity)
    known = storage.read_json(path)
    for name, value in identity.items():
        if known.get(name) != value:
            raise ResultsError(f"{work}: holds an ablation with another {name}; set another parts_work")


def _measured(size: Size, parts: Sequence[Part], maps: Maps, work: Path) -> Iterator[PartEffect]:
    """Yield the effects on the validation cases, then those on the test cases."""
    stores = make_stores(work, maps, size, [None, *(part.spacing_mm for part in parts)], num_cores())
    runs = _runs(size, parts, stores, work)
    with new_pool() as pool:
        for run in finish(runs, "validation", pool):
            _log.info("trained: %s", run)
        validation = Table(scores(runs, "validation"))
        chosen = choose(validation, parts)
        # Before the test cases are read, so that no choice can depend on them.
        storage.write_json(work / CHOICE_FILE, chosen)
        for run in finish(runs, "test", pool):
            _log.info("tested: %s", run)
        groups = subsets(traits(str(work), stores[None], pool))
    costs = _costs(runs)
    yield from effects(validation, "validation", parts, {}, costs, chosen)
    yield from effects(Table(scores(runs, "test")), "test", parts, groups, costs, chosen)


def _runs(size: Size, parts: Sequence[Part], stores: Mapping[Any, Store], work: Path) -> list[Run]:
    """Return the runs seed by seed, so that an ablation that is stopped has whole seeds."""
    trained = [None, *(part for part in parts if part.run != REFERENCE)]
    seeds = range(size.parts_first_seed, size.parts_first_seed + size.parts_seeds)
    return [_run(size, part, seed, stores, work) for seed in seeds for part in trained]


def _run(size: Size, part: Part | None, seed: int, stores: Mapping[Any, Store], work: Path) -> Run:
    name = part.run if part else REFERENCE
    store = stores[part.spacing_mm if part else None]
    # Of all parts, so that parts may be added to a selection without further inference.
    readings = readings_of(name, all_parts(size.parts_preset))
    return Run(name, seed, config_of(part, seed, size), tuple(readings), str(work), store.path, stores[None].path)


def _costs(runs: Sequence[Run]) -> dict[str, Cost]:
    """Return the cost of the networks by their name."""
    return {name: _cost([run for run in runs if run.name == name]) for name in dict.fromkeys(run.name for run in runs)}


def _cost(runs: Sequence[Run]) -> Cost:
    """Return the cost of one network from its runs with different seeds."""
    config = runs[0].config
    network = describe(config.net, config.labels, config.patch.shape)
    voxels = config.optim.batch_size * math.prod(config.patch.shape)
    return Cost(
        step_s=voxels / median(record.voxels_per_s for run in runs for record in _records(run)),
        memory_mb=config.optim.batch_size * network.training_memory_mb,
        num_parameters=network.num_parameters,
    )


def _records(run: Run) -> list[EpochRecord]:
    lines = storage.read_bytes(storage.join(run.folder, LOG_FILE)).decode().splitlines()
    return [EpochRecord.from_json(json.loads(line)) for line in lines]


def _row(effect: PartEffect) -> Row:
    parts = [
        f"tumor {interval_text(effect.tumor, effect.tumor_low, effect.tumor_high)}",
        f"kidney {interval_text(effect.kidney, effect.kidney_low, effect.kidney_high)}",
        f"objective {interval_text(effect.objective, effect.objective_low, effect.objective_high)}",
        f"step {effect.step_s:.2f} s ({effect.reference_step_s:.2f})",
        f"case {effect.case_s:.2f} s ({effect.reference_case_s:.2f})",
        f"{effect.memory_mb:.0f} MiB ({effect.reference_memory_mb:.0f})",
        f"{effect.num_parameters:,} parameters ({effect.reference_num_parameters:,})",
        f"{effect.num_patients} patients, {effect.num_seeds} seeds",
        "chosen by the validation cases" if effect.is_chosen else "not chosen by the validation cases",
    ]
    ours = effect.reference_tumor + effect.tumor
    what = f"{effect.choice}: {effect.title}"
    return Row("parts", what, "tumor Dice", ours, REFERENCE, effect.reference_tumor, note="; ".join(parts))
