"""Processes that try to take a lease at the same moment: `lease_racers.py PATH COUNT` prints how it went for each."""

import multiprocessing
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import boto3  # noqa: F401  before there are many who would each import it

from renalnet.errors import BusyError
from renalnet.lease import Lease


def try_once(path: str, together: Barrier) -> None:
    together.wait()
    try:
        with Lease(path):
            sys.stdout.write("held\n")
            sys.stdout.flush()
            together.wait()  # nobody lets go before all have tried
    except BusyError:
        sys.stdout.write("busy\n")
        sys.stdout.flush()
        together.wait()


def main() -> None:
    path, num_racers = sys.argv[1], int(sys.argv[2])
    forking = multiprocessing.get_context("fork")
    together = forking.Barrier(num_racers)
    racers = [forking.Process(target=try_once, args=(path, together)) for _ in range(num_racers)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()


main()
