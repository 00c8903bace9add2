"""A driver of its own process that joins a running Ray and runs a task there."""

import os
import subprocess
import sys
from typing import Final

JOIN: Final = """
import ray, sys
ray.init(sys.argv[1], logging_level="ERROR", log_to_driver=False)
print(ray.get(ray.remote(num_cpus=0)(lambda: "ran").remote()))
"""


def joined(address: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the driver at an address, with more variables; it prints `ran` where it was let in."""
    return subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
