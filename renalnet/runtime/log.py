"""Logging. Library code only gets loggers; command lines configure them."""

import logging
import sys


class _Stderr(logging.Handler):
    """Handler that writes to the current `sys.stderr`.

    A progress bar replaces `sys.stderr` by a stream that prints lines above the bar. A handler that kept the first
    stream would write into the bar.
    """

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")
        sys.stderr.flush()


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. `name` starts with the name of one of the project's packages."""
    return logging.getLogger(name)


def configure(verbose: bool = False) -> None:
    """Send the log of the project's packages to stderr. Only command lines call this."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for root in ("renalnet", "study", "cluster"):
        logger = logging.getLogger(root)
        logger.handlers = [handler]  # replaced, so that a second call does not print each line twice
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
        logger.propagate = False  # a handler of the root logger would print each line again
