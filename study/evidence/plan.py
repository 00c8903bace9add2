"""The plan of the evidence: a study with equal searches for all networks, its folders, and what is done of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from renalnet.config import (
    KIDNEY_TUMOR,
    KITS23,
    LabelSet,
    PhantomConfig,
    chosen_labels,
    fingerprint,
    merge,
    override,
    read_file,
)
from renalnet.data.phantom import COHORT_FILE
from renalnet.data.phantom.label_maps import MAP_SPLITS, painter_seed
from renalnet.data.store.reader import MANIFEST
from renalnet.errors import ConfigError, nearest
from renalnet.runtime import storage
from renalnet.types import Split
from study.config.presets import study_preset
from study.config.sections import StudyConfig
from study.records.results import Results
from study.records.trials import read_all_records
from study.search.trial_counts import count_repeats, count_trials

# Short runs gain from a background weight of 1 and late milestones, all three networks alike (results/LOG.md).
_SHORT: Final = (
    "train.loss.background=1.0",
    "train.optim.milestones=[5,7,8]",
    "space.background_weight=[0.3,1.0]",
    "search.num_trials=3",
    "final.num_finalists=1",
)
PRESETS: Final[dict[str, tuple[str, ...]]] = {
    "anatomy": (*_SHORT, "train.steps_per_epoch=240"),
    "quick": _SHORT,
    "paper": (),
}
"""Presets of the evidence, and the values in which each differs from the preset of the study of that name."""
_SEEDS: Final = "final.seeds=3"
_SET_HERE: Final = {"search.baseline_trials": "it equals search.num_trials", "seed": "--seed sets it"}
"""Keys that the command sets itself, and why they cannot be set."""


def evidence_config(preset: str, seed: int, assignments: Sequence[str], config: str | None = None) -> StudyConfig:
    """Return the configuration of a study in which each network has the same number of trials, steps and seeds.

    Args:
        preset: a name in `PRESETS`.
        seed: seed of the search, and of the painter.
        assignments: values to change last, as `key.sub=value`.
        config: YAML file of values that replace those of the preset.

    Raises:
        ConfigError: the preset is unknown, a value is wrong, or it would make the searches unequal.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset '{preset}' of the evidence; {nearest(preset, PRESETS)}")
    values = read_file(config) if config else {}
    given = {each.partition("=")[0].strip() for each in assignments}
    for key, reason in _SET_HERE.items():
        if key in given or _states(values, key):
            raise ConfigError(f"{key}: cannot be set, because {reason}; leave it out")
    settings = override(study_preset(preset, chosen_labels(assignments, values)), [*PRESETS[preset], _SEEDS])
    settings = override(merge(settings, values, config or ""), [f"seed={seed}", *assignments])
    return override(settings, [f"search.baseline_trials={settings.search.num_trials}"])


def _states(values: Any, key: str) -> bool:
    """Return whether the values of a configuration file state a key such as `search.num_trials`."""
    first, _, rest = key.partition(".")
    if not isinstance(values, Mapping) or first not in values:
        return False
    return not rest or _states(values[first], rest)


def painter(config: StudyConfig, split: Split) -> PhantomConfig:
    """Return the configuration by which the scans of a split are painted."""
    seed = painter_seed(config.seed, split)
    return config.phantom.model_copy(update={"labels": painted_labels(config.labels), "seed": seed})


def painted_labels(labels: LabelSet) -> LabelSet:
    """Return the labels of the maps: cysts are painted as such also where a study does not distinguish them."""
    return KITS23 if labels == KIDNEY_TUMOR else labels


@dataclass(frozen=True)
class Work:
    """The folder of the scans, the store and the study from which the evidence is computed. It is not committed."""

    folder: Path

    def maps(self, split: Split) -> Path:
        """Return the folder of links to the label maps of a split."""
        return self.folder / "maps" / split

    def cohort(self, split: Split) -> Path:
        """Return the folder of the scans that are painted on the maps of a split."""
        return self.folder / "cohort" / split

    @property
    def store(self) -> str:
        """The store of all ROIs."""
        return str(self.folder / "store")

    @property
    def results(self) -> Results:
        """The results folder of the study."""
        return Results(str(self.folder / "study"))

    @property
    def log_path(self) -> Path:
        """Durations of the stages and peak memory, over all calls of the command."""
        return self.folder / "evidence.json"

    @property
    def has_begun(self) -> bool:
        """Whether an earlier call has begun the study."""
        return storage.exists(self.results.manifest_path)

    def stages(self, config: StudyConfig) -> dict[str, bool]:
        """Return the stages before the tables, and whether each is done as `config` states it."""
        return {
            "paint": all(self._is_painted(config, split) for split in MAP_SPLITS),
            "prepare": (Path(self.store) / MANIFEST).is_file(),
            "study": self._is_finished(config),
        }

    def _is_painted(self, config: StudyConfig, split: Split) -> bool:
        path = self.cohort(split) / COHORT_FILE
        known = storage.read_json(path) if path.is_file() else {"finished": False}
        return bool(known["finished"]) and known["fingerprint"] == fingerprint(painter(config, split))

    def _is_finished(self, config: StudyConfig) -> bool:
        if not self.has_begun:
            return False
        manifest = self.results.manifest()
        return manifest.finished and manifest.config_fingerprint == fingerprint(config)


def plan_lines(config: StudyConfig, work: Work, maps: Mapping[Split, Mapping[str, Path]]) -> Iterator[str]:
    """Yield what the command does, what of it is done, and what is left, one line each."""
    counts = ", ".join(f"{len(maps[split])} {split}" for split in MAP_SPLITS)
    names = dict.fromkeys(collection_of(path) for split in MAP_SPLITS for path in maps[split].values())
    yield f"maps        {counts} of {', '.join(names)}"
    yield f"painter     {config.phantom.contrast}, {config.phantom.healthy_share:.0%} healthy, seed {config.seed}"
    yield (
        f"searches    {config.search.num_trials} trials of {config.train.epochs} epochs of "
        f"{config.train.steps_per_epoch} steps for each network; finalists over {config.final.seeds} seeds"
    )
    stages = work.stages(config)
    yield f"done        {', '.join(name for name, is_done in stages.items() if is_done) or 'nothing'}"
    if work.has_begun:
        yield f"runs        {_runs_text(config, work.results)}"
    yield f"left        {', '.join([*(name for name, is_done in stages.items() if not is_done), 'tables and figures'])}"


def _runs_text(config: StudyConfig, results: Results) -> str:
    """Return how many of the trials and repeats have ended."""
    num_planned = sum(count_trials(config).values()) + sum(count_repeats(config).values())
    num_ended = sum(record.has_ended for record in read_all_records(results))
    return f"{num_ended} of {max(num_planned, num_ended)} trials and repeats have ended"


def collection_of(path: Path) -> str:
    """Return the name of the collection of a label map."""
    return path.parent.parent.name
