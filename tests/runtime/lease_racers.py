"""Processes that try to take a lease at the same moment: `lease_racers.py PATH COUNT` prints how it went for each."""

import multiprocessing
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from renalnet.errors import BusyError
from renalnet.runtime.lease import Lease


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
    except Exception:
        together.abort()  # the others would wait for ever
        raise


def main() -> None:
    path, num_racers = sys.argv[1], int(sys.argv[2])
    # A hundred forked processes are quick; what speaks to an object store has threads, with which no process may fork.
    context = multiprocessing.get_context("spawn" if path.startswith("s3://") else "fork")
    together = context.Barrier(num_racers)
    racers = [context.Process(target=try_once, args=(path, together)) for _ in range(num_racers)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    sys.exit(max(racer.exitcode or 0 for racer in racers))


if __name__ == "__main__":
    main()
