"""The forecast of a study as lines of text."""

from collections.abc import Iterator

from renalnet.config import MAIN_NETWORK
from renalnet.runtime.durations import duration_words
from study.config import space
from study.config.sections import Cluster, Slots, StudyConfig
from study.progress.forecast import Disk, Forecast, forecast
from study.progress.progress import hours_words
from study.progress.trial_cost import Measured
from study.search.pruner import make_pruner
from study.search.trial_counts import count_repeats, count_trials, has_reference, num_finalists


def forecast_lines(config: StudyConfig, cluster: Cluster, slots: Slots, measured: Measured) -> Iterator[str]:
    """Return lines of text: the configuration, the cluster, the measurements and the forecast."""
    yield from _config_lines(config, slots)
    yield (
        f"cluster     nodes {cluster.num_nodes}, GPUs {cluster.num_gpus}, processors {cluster.num_cpus}: "
        f"{slots.num_slots} trials at once"
    )
    yield from _measured_lines(measured)
    yield from _forecast_lines(forecast(config, measured, slots), slots)
    yield f"memory      {_size_text(measured.data.decoded_bytes)} of decoded cases per node"


def _config_lines(config: StudyConfig, slots: Slots) -> Iterator[str]:
    train = config.train
    trials = ", ".join(f"{name} {number}" for name, number in count_trials(config).items())
    domains = space.domains(config.space, MAIN_NETWORK)
    shape = "×".join(map(str, train.patch.shape))
    yield f"study       {config.preset}: {trials} trials"
    yield f"space       {'; '.join(_domain_text(*item) for item in domains.items())}"
    yield (
        f"trial       {train.epochs} epochs of {train.steps_per_epoch} steps of {train.optim.batch_size} crops of "
        f"{shape} on {_slot_text(slots)}"
    )
    yield f"search      {config.search.sampler}, seed {config.seed}; {make_pruner(config).describe()}"
    kept = f"weights of the best {config.search.kept_models} of each network are kept"
    yield f"finalists   {_finalists_text(config)}; {kept}"


def _finalists_text(config: StudyConfig) -> str:
    final = config.final
    num_repeats = sum(count_repeats(config).values())
    runs = f", each over {final.seeds} seeds" if final.seeds > 1 else ""
    folds = f" and those of {MAIN_NETWORK} on {final.folds} folds" if final.folds else ""
    more = f" ({num_repeats} further runs)" if num_repeats else ""
    paper = ", with the paper's values among them," if has_reference(config) else ""
    return (
        f"{num_finalists(config)} of {MAIN_NETWORK}{paper} and the best of each baseline{runs}{folds}{more}, by full "
        "inference"
    )


def _domain_text(name: str, domain: space.Domain) -> str:
    match domain:
        case space.Choice(options) if name == space.KERNELS:
            return f"{len(options)} sets of pooling kernels ({', '.join(map(str, options))})"
        case space.Choice(options):
            return f"{name} {', '.join(map(str, options))}"
        # Before the next case, which matches ranges on either scale.
        case space.Real(low, high, True):
            return f"{name} {low:g} to {high:g} on a log scale"
        case space.Real(low, high) | space.Whole(low, high):
            return f"{name} {low:g} to {high:g}"


def _slot_text(slots: Slots) -> str:
    processors = f"{slots.cpus} processor{'s' if slots.cpus > 1 else ''}"
    fake = "fake " if slots.are_gpus_fake else ""
    return f"{slots.gpus:g} {fake}GPU and {processors}" if slots.gpus else processors


def _measured_lines(measured: Measured) -> Iterator[str]:
    for name, cost in measured.networks.items():
        yield (
            f"measured    {name} on {measured.device}: {cost.step_s:.3g} s per step, {cost.case_s:.3g} s per "
            f"validation case, {cost.final_s:.3g} s per case of the final stage"
        )


def _forecast_lines(found: Forecast, slots: Slots) -> Iterator[str]:
    longest = ", ".join(f"{name} {duration_words(seconds)}" for name, seconds in found.trial_s.items())
    device = "GPU" if slots.real_gpus else "processor"
    wall = f"{duration_words(found.most_wall_s)} at most"
    hours = f"{hours_words(found.most_hours)} at most"
    if found.expected_hours is not None and found.expected_wall_s is not None:
        hours += f", about {hours_words(found.expected_hours)} with pruning"
        wall += f", about {duration_words(found.expected_wall_s)} with pruning"
    yield f"trials      {sum(found.num_trials.values())}; one that is not pruned takes {longest}"
    yield f"hours       {hours} ({device}-hours of search and final stage)"
    yield f"wall time   {wall} on {slots.num_slots} slots, without painting and preparing data"
    yield f"disk        {_disk_text(found.disk)}"


def _disk_text(disk: Disk) -> str:
    data = f", synthetic data {_size_text(disk.data)}" if disk.data else ""
    parts = f"weights {_size_text(disk.weights)}, logs {_size_text(disk.logs)}, masks {_size_text(disk.masks)}"
    return f"{_size_text(disk.total)}: {parts}{data}"


def _size_text(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
