"""`python -m cluster.submit`: `ray job submit` of a working directory, which is checked before the upload."""

import asyncio
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import requests
import typer
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.dashboard import (
    ADDRESS,
    DEFAULT_ADDRESS,
    DashboardAddress,
    host_of,
    past_proxies,
    refusal,
    with_scheme,
)
from cluster.upload import MIB, check_upload
from renalnet.commands.line import LOST_RESOURCE, fail, run
from renalnet.errors import ClusterError
from renalnet.runtime.log import get_logger

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_log = get_logger("cluster.submit")  # not `__name__`, which is `__main__` here

AGENT_WAIT_S: Final = 60.0
"""Seconds that a head may need after its start until it can run a job."""


# Without interspersed options, those of the command after `--` are left to the command.
@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    command: Annotated[list[str], typer.Argument(help="Command of the job, after `--`.")],
    address: DashboardAddress = DEFAULT_ADDRESS,
    working_dir: Annotated[Path, typer.Option(help="Folder to upload. The job runs in it.")] = Path(),
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End as soon as the job is accepted.")] = False,
) -> None:
    """Upload a clone of the project, run a command in it on a Ray cluster, and show the command's output.

    Scans, masks and shards of stores are not uploaded, and a warning names them.

    Example: python -m cluster.submit -- python -m study.run --preset paper --data /shared/store --results
    /shared/results

    The exit code is 0 if the job succeeded (with --no-wait, if it was accepted), 1 if it failed, and 2 if it was
    refused.
    """
    upload = check_upload(working_dir)
    client = connect(address)
    if upload.left_out:
        _log.warning("%s", upload.line)
    _log.info("uploading %.1f MiB to %s", upload.num_bytes / MIB, address)
    job = _submit_job(client, shlex.join(command), working_dir, upload.excludes)
    _log.info(
        "job %s is accepted; `ray job logs --follow %s` shows its output, `ray job stop %s` stops it", job, job, job
    )
    if not no_wait:
        _follow(client, job)


def connect(address: str) -> JobSubmissionClient:
    """Return a client of the job interface at `address`.

    Raises:
        ClusterError: no server answers, the server is not Ray, or it refuses the token.
    """
    address = with_scheme(address)
    os.environ[ADDRESS] = address  # Ray prefers this variable to its argument, and it may name another address
    os.environ.update(past_proxies(dict(os.environ), host_of(address)))  # Ray's client would give a proxy the token
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        # Ray raises one class for a wrong token and for none; only the text differs.
        has_token = "Invalid authentication token" in str(error)
        raise ClusterError(refusal(address, has_token=has_token)) from error
    except ConnectionError as error:
        raise ClusterError(
            f"no Ray head answers at {address}; start one, open a tunnel to it, or give its address with --address"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"{address} takes no jobs: {_first_line(error)}; give the address of a Ray head with --address"
        ) from error


def main() -> None:
    """Run the command line `cluster.submit`."""
    run(app)


def _submit_job(client: JobSubmissionClient, entrypoint: str, folder: Path, excludes: Sequence[str]) -> str:
    """Submit a job and return its name.

    It tries again for `AGENT_WAIT_S` while the head has no agent, as for some seconds after its start.
    """
    deadline = time.monotonic() + AGENT_WAIT_S
    while True:
        try:
            environment = {"working_dir": str(folder), "excludes": list(excludes)}
            return str(client.submit_job(entrypoint=entrypoint, runtime_env=environment))
        except (RuntimeError, requests.RequestException) as error:
            # Ray has no class of its own for this refusal.
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise ClusterError(
                    f"the head did not accept the job: {_first_line(error)}; see its dashboard"
                ) from error
            time.sleep(1)


def _follow(client: JobSubmissionClient, job: str) -> None:
    try:
        asyncio.run(_show_output(client, job))  # Ray follows a log only as an asynchronous iterator
        status = client.get_job_status(job)
    except KeyboardInterrupt:
        _log.info("the job continues; `ray job stop %s` stops it", job)
        raise
    except (OSError, RuntimeError) as error:
        fail(f"the head is lost: {_first_line(error)}; submit again once it is back: a study resumes", LOST_RESOURCE)
    if status != JobStatus.SUCCEEDED:
        fail(f"job {job} {status.value.lower()}: {_reason(client.get_job_info(job).message)}", LOST_RESOURCE)
    _log.info("job %s succeeded", job)


async def _show_output(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        typer.echo(lines, nl=False)


def _reason(message: str | None) -> str:
    """Return why a job ended, without the last lines of its output, which were shown already."""
    return (message or "no reason given").partition(", last available logs")[0]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]


if __name__ == "__main__":
    main()
