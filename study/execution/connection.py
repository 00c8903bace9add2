"""The connection to Ray: a cluster at RAY_ADDRESS, or one on this machine that ends with the command."""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import AuthenticationError, RayError

from renalnet.errors import ClusterError, ConfigError
from study.execution.interruption import ends_in_one_line
from study.execution.own_ray import ask_for_token, bound_memory_losses, offered_gpus, short_folder
from study.execution.ray_private import log_messages

KNOCK_S: Final = 20.0
"""Time that the head of a cluster has to accept a connection."""
JOB_MARK: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray 2.60 sets for the command of a submitted job; Ray has no public way to ask."""


def inside_job() -> bool:
    """Whether this process is the command of `ray job submit`."""
    return JOB_MARK in os.environ


def check_address() -> None:
    """Check, before anything is done, that RAY_ADDRESS is not the address for jobs, and that something answers there.

    Raises:
        ConfigError: it is the address for jobs.
        ClusterError: nothing answers at HOST:PORT.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("http"):
        raise ConfigError(f"RAY_ADDRESS={address} takes jobs: use `ray job submit`, or unset it to run on this machine")
    try:
        _knock(address)
    except (OSError, ValueError) as error:
        raise _not_joined(address, error) from error


def refuse_relative(path: str) -> None:
    """Check that a command in a submitted job does not name a relative path: Ray deletes the job's folder at its end.

    Raises:
        ConfigError: it does.
    """
    if inside_job() and "://" not in path and not Path(path).is_absolute():
        raise ConfigError(f"{path}: inside a submitted job paths must be absolute; the job's own folder is deleted")


@contextmanager
def connected() -> Iterator[str]:
    """Connect to the cluster at RAY_ADDRESS, or start a Ray on this machine that ends with the block.

    Yields the address of Ray's dashboard, such as `http://127.0.0.1:8265`; empty if there is none.

    Raises:
        ClusterError: there is no cluster at RAY_ADDRESS, it refuses the token, no Ray could be started, or the cluster
            was lost during the block.
        StoppedError: SIGTERM or Ctrl-C arrived during the block.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    bound_memory_losses()
    with nullcontext() if address else short_folder() as folder:
        context = _join(address) if address else _start(folder)
        log_messages()
        try:
            with ends_in_one_line(address):
                yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
        finally:
            # Waited for, because a trial that is still running could write into a folder that another driver holds.
            ray.shutdown(wait_for_processes=True)


def _start(folder: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ask_for_token()
    try:
        # `local`, because Ray would otherwise join another cluster that it finds on this machine.
        return ray.init(
            "local",
            num_gpus=offered_gpus(),
            include_dashboard=False,
            logging_level="WARNING",
            log_to_driver=False,
            _temp_dir=folder,
        )
    except AuthenticationError as error:
        raise ClusterError(
            "Ray was imported before RAY_AUTH_MODE was set, so it cannot ask for a token; import study.execution "
            "first, or set RAY_AUTH_MODE=token before Python starts"
        ) from error
    except Exception as error:  # on a machine that is too busy, Ray 2.60 raises this class itself
        raise ClusterError(
            f"Ray did not start on this machine ({_first_line(error)}); repeat the command when less runs beside it; "
            f"its logs are below {folder or tempfile.gettempdir() + '/ray'}/session_latest/logs"
        ) from error


def _join(address: str) -> Any:
    try:
        _knock(address)
        return ray.init(address, logging_level="WARNING", log_to_driver=False)
    # This branch comes first, because AuthenticationError is a RayError too.
    except AuthenticationError as error:
        raise ClusterError(
            f"RAY_ADDRESS={address} refuses the token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's own"
        ) from error
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise _not_joined(address, error) from error


def _not_joined(address: str, error: Exception) -> ClusterError:
    return ClusterError(
        f"RAY_ADDRESS={address}: no cluster joined ({_first_line(error)}); name HOST:PORT of its head, with "
        "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN where it asks for one; unset it for this machine"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _knock(address: str) -> None:
    """Connect once to HOST:PORT. Raises OSError or ValueError where that fails.

    Ray 2.60 by itself tries for minutes and then ends the process.
    """
    host, _, port = address.rpartition(":")
    # Other forms, such as `auto` and `ray://HOST:PORT`, are left to Ray.
    if host and "://" not in address:
        # An IPv6 address stands in brackets.
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
