"""Start COUNT processes that try to take a lease at the same time: `lease_racers.py PATH COUNT`.

Each process prints `held` or `busy`.
"""

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
            together.wait()  # no process releases the lease before all have tried
    except BusyError:
        sys.stdout.write("busy\n")
        sys.stdout.flush()
        together.wait()
    except Exception:
        together.abort()  # otherwise the other processes would wait for ever
        raise


def main() -> None:
    path = sys.argv[1]
    num_racers = int(sys.argv[2])
    # Forking is quick for a hundred processes. A client of an object store has threads, which must not be forked.
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
