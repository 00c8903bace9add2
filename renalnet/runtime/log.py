"""Logging: library code asks for a logger, command lines alone configure it."""

import logging
import sys


class _Stderr(logging.Handler):
    """Writes to what stderr is when a message comes: while a bar is shown, to what prints lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")
        sys.stderr.flush()


def get_logger(name: str) -> logging.Logger:
    """The logger of a module, below one of the project's own roots, the packages."""
    return logging.getLogger(name)


def configure(verbose: bool = False) -> None:
    """Send the project's messages to stderr; called by command lines only."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for root in ("renalnet", "study", "cluster"):
        logger = logging.getLogger(root)
        logger.handlers = [handler]
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
        logger.propagate = False
