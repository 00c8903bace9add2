"""Small cohorts shared by the tests: a bright ball (kidney) with a darker one in it (tumor), in noise."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import commands
from support.balls import ball_roi
from support.made_once import made_once
from support.tiny import TINY

from cluster.local import LocalCluster
from cluster.node import NodeSize
from renalnet.config import NetConfig, OptimConfig, PatchConfig, PrepareConfig, StitchConfig, TrainConfig, merge
from renalnet.data.batches.cohort import Cohort, load_cohort
from renalnet.data.store.reader import Store, open_store
from renalnet.data.store.writer import write_store
from renalnet.types import Split
from study.config.presets import quick
from study.config.sections import StudyConfig
from study.execution.own_ray import ask_for_token

ask_for_token()  # before any test module imports Ray, which reads the variables once


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests come first, so that at the end no worker process waits for a long module of another."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def no_command_stays() -> Iterator[None]:
    """A test that fails between the start and the end of a command leaves no process."""
    yield
    commands.kill_what_is_left()


@pytest.fixture(autouse=True)
def loggers_as_imported() -> None:
    """A command that an earlier test has run in this process does not decide where the log goes."""
    for logger in map(logging.getLogger, ("renalnet", "study", "cluster")):
        logger.handlers = []
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C acts as ever, also where the tests were started in the background or a library has taken it over."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def ball_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four training, two validation and two test patients."""
    return open_store(made_once(tmp_path_factory, "ball-store", write_ball_store))


def write_ball_store(folder: Path) -> None:
    splits: list[Split] = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    rois = [ball_roi(f"case_{number:05d}", split, number) for number, split in enumerate(splits)]
    write_store(folder, rois, PrepareConfig(spacing_mm=(2.0, 2.0, 2.0), localise="cut"))


@pytest.fixture(scope="session")
def ball_cohort(ball_store: Store) -> Iterator[Cohort]:
    """The training and validation patients of `ball_store`."""
    cohort = load_cohort(ball_store)
    yield cohort
    cohort.close()


@pytest.fixture(scope="session")
def tiny_study() -> StudyConfig:
    return merge(quick(), TINY, "tiny")


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture
def tiny_train() -> TrainConfig:
    """A run of seconds on `ball_store`."""
    return TrainConfig(
        net=NetConfig(width=4, ppm_kernels=(1, 2)),
        optim=OptimConfig(base_rate=0.05, batch_size=2),
        patch=PatchConfig(shape=(8, 16, 16)),
        stitch=StitchConfig(tile=(8, 20, 20), stride=(4, 10, 10)),
        epochs=3,
        steps_per_epoch=3,
        precision="float32",
    )


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real label maps and CTs, where there is one."""
    folder = os.environ.get("RENALNET_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RENALNET_TEST_DATA names no folder of real scans")
    return Path(folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """`HOST:PORT` of a real S3-compatible server on loopback that holds the bucket `scans`."""
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
            patch.setenv(f"AWS_{name}", value)
        client = fs.S3FileSystem(endpoint_override=f"http://{host}:{port}", allow_bucket_creation=True)
        client.create_dir("scans")
        yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3_uri(s3_server: str, tmp_path: Path) -> str:
    """An empty folder of that bucket, a new one for each test."""
    return f"s3://scans/{tmp_path.name}?endpoint_override={s3_server}&scheme=http&region=us-east-1"


@pytest.fixture(scope="module")
def ray_head() -> Iterator[LocalCluster]:
    """A Ray head of two processor slots, with a token, on ports of its own."""
    with LocalCluster(1, NodeSize(cpus=2, gpus=0)) as cluster:
        yield cluster
