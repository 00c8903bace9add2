"""A finished study that tests share; tests that change it work on a copy."""

from pathlib import Path

import pytest
from support.made_once import made_once
from support.study_command import ONE_AT_A_TIME, command, run

from renalnet.data.store.reader import Store


@pytest.fixture(scope="session")
def finished(ball_store: Store, tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny study of one trial at a time; `terminal.txt` and `log.txt` are what it printed."""

    def make(results: Path) -> None:
        done = run(command(ball_store, tiny_file, results, *ONE_AT_A_TIME))
        assert done.returncode == 0, done.stderr
        (results / "terminal.txt").write_text(done.stdout)
        (results / "log.txt").write_text(done.stderr)

    return made_once(tmp_path_factory, "finished-study", make)
