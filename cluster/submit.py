"""`python -m cluster.submit`: `ray job submit` of a working directory, checked before it is uploaded."""

import asyncio
import os
import shlex
import time
from pathlib import Path
from typing import Annotated, Final

import requests
import typer
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.upload import MIB, check_upload
from cluster.wait import ADDRESS, DEFAULT_ADDRESS, with_scheme
from renalnet.commands.line import LOST_RESOURCE, fail, run
from renalnet.errors import ClusterError
from renalnet.runtime.log import get_logger

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
_log = get_logger("cluster.submit")  # `__name__` is `__main__` here

AGENT_WAIT_S: Final = 60.0
"""How long a head that has just started may take until it can run a job."""
_TOKEN_HOME: Final = "RAY_AUTH_TOKEN, or ~/.ray/auth_token with RAY_AUTH_MODE=token"


@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    command: Annotated[list[str], typer.Argument(help="What the job runs, after `--`.")],
    address: Annotated[str, typer.Option(envvar=ADDRESS, help="Ray's dashboard.")] = DEFAULT_ADDRESS,
    working_dir: Annotated[Path, typer.Option(help="Folder that is uploaded and that the job runs in.")] = Path(),
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Leave once the job is accepted.")] = False,
) -> None:
    """Upload a clone of the project and run a command in it on a Ray cluster; shows what the command prints.

    python -m cluster.submit -- python -m study.run --preset paper --data /shared/store --results /shared/results

    Exit code 0: the job succeeded (or was accepted, with --no-wait), 1: it failed, 2: it was refused, in one line.
    """
    size = check_upload(working_dir)
    client = connect(address)
    _log.info("uploading %.1f MiB to %s", size / MIB, address)
    job = _accepted(client, shlex.join(command), working_dir)
    _log.info("job %s; `ray job logs --follow %s`, `ray job stop %s`", job, job, job)
    if not no_wait:
        _follow(client, job)


def connect(address: str) -> JobSubmissionClient:
    """A client of the job interface at `address`.

    Raises:
        ClusterError: nothing answers there, it is no Ray, or it refuses the token.
    """
    address = with_scheme(address)
    os.environ[ADDRESS] = address  # over the argument Ray prefers the environment, where another may be named
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ClusterError(_refusal(address, str(error))) from error
    except ConnectionError as error:
        raise ClusterError(
            f"no Ray head answers at {address}; start one, open the tunnel to it, or name its dashboard by --address"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"{address} takes no jobs: {_first_line(error)}; name the dashboard of a Ray head by --address"
        ) from error


def main() -> None:
    """Entry point."""
    run(app)


def _refusal(address: str, reason: str) -> str:
    if "Invalid authentication token" in reason:
        return f"{address} refuses the token, which is another cluster's; put its own into {_TOKEN_HOME}"
    return f"{address} asks for a token and none was found; put the cluster's into {_TOKEN_HOME}"


def _accepted(client: JobSubmissionClient, entrypoint: str, folder: Path) -> str:
    """The job's name; asks again while a head that has just started has no agent yet."""
    deadline = time.monotonic() + AGENT_WAIT_S
    while True:
        try:
            return str(client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": str(folder)}))
        except (RuntimeError, requests.RequestException) as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise ClusterError(f"the head did not take the job: {_first_line(error)}; see its dashboard") from error
            time.sleep(1)


def _follow(client: JobSubmissionClient, job: str) -> None:
    try:
        asyncio.run(_show_output(client, job))
        status = client.get_job_status(job)
    except KeyboardInterrupt:
        _log.info("the job goes on; `ray job stop %s` ends it", job)
        raise
    except (OSError, RuntimeError) as error:
        fail(f"the head is lost: {_first_line(error)}; submit again once it is back, the study resumes", LOST_RESOURCE)
    if status != JobStatus.SUCCEEDED:
        fail(f"job {job} {status.value.lower()}: {_reason(client.get_job_info(job).message)}", LOST_RESOURCE)
    _log.info("job %s succeeded", job)


async def _show_output(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        typer.echo(lines, nl=False)


def _reason(message: str | None) -> str:
    """Why a job ended, without its last lines, which were shown already."""
    return (message or "no reason given").partition(", last available logs")[0]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]


if __name__ == "__main__":
    main()
