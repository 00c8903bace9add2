"""A run of Ray Tune on a real local Ray, with trials that sleep."""

from pathlib import Path

import pytest
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from support.study_records import searcher

from renalnet.errors import BusyError
from renalnet.runtime.lease import Lease
from study.bench.search.sleeper import Sleeper
from study.config.sections import Slots, StudyConfig
from study.execution import tuner
from study.records.results import Results
from study.records.trials import read_records


@pytest.fixture
def local_ray(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")  # Ray's own
def test_a_driver_that_has_lost_its_lease_stops(
    local_ray: None, tiny_study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "LINE_EVERY_S", 0.0)
    search = searcher(tiny_study, tmp_path)
    results = Results(str(tmp_path))
    sleeper = tune.with_parameters(Sleeper, results=results, seconds=0.1, weights_kb=0)
    with Lease(str(tmp_path / ".lease")) as lease:

        def check() -> None:
            if len(read_records(results)) == 2:
                (tmp_path / ".lease").unlink()  # as if another driver had taken it for gone
            lease.check()

        with pytest.raises(BusyError):
            tuner.run_trials(sleeper, search, FIFOScheduler(), tiny_study, results, Slots(1, 0.0, 2), check)
    assert len(read_records(results)) < search.num_planned
