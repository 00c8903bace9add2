"""What a connection needs from inside Ray; no other module relies on it. Written for Ray 2.60."""

from collections.abc import Mapping
from typing import Any

from ray._private import worker

from renalnet.runtime.log import get_logger

_log = get_logger(__name__)


def log_messages() -> None:
    """Log what Ray publishes about its nodes, where the log is verbose, instead of printing it to stdout.

    Ray prints it whatever `log_to_driver` is. The end of a node alone takes 50 lines.
    """
    worker.print_to_stdstream = _log_message


def _log_message(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:  # noqa: ARG001
    for line in data["lines"]:
        _log.debug("Ray: %s", line)
