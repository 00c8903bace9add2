"""The parts of Ray that `cluster` needs and that Ray does not publish. A new version of Ray may change them."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ray._private import accelerators, ray_constants
from ray._private.runtime_env import packaging

UPLOAD_LIMIT_BYTES: Final[int] = ray_constants.DASHBOARD_CLIENT_MAX_SIZE
"""The largest upload that the job interface accepts. It answers a larger one with a traceback."""
# Ray's walk would log each ignore file that it reads.
_QUIET: Final = logging.Logger("quiet", logging.ERROR)


def visit_packed(folder: Path, visit: Callable[[Path], None]) -> None:
    """Call `visit` with each file and folder that Ray packs for an upload of `folder`, in Ray's order.

    Ray leaves out what `.gitignore` and `.rayignore` files name, also those of subfolders, and `.git`, `.venv`, `venv`
    and `__pycache__`.
    """
    # Ray's own walk over the folder is used, because its rules for ignored files differ from those of git.
    left_out = packaging._get_excludes(folder, ray_constants.get_runtime_env_default_excludes())
    reads_gitignore = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    packaging._dir_travel(folder, [left_out], visit, include_gitignore=reads_gitignore, logger=_QUIET)


def num_gpus() -> int:
    """Return the GPUs of this machine, as Ray counts them."""
    return int(accelerators.get_accelerator_manager_for_resource("GPU").get_current_node_num_accelerators())
