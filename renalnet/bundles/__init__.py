"""The bundles that ship with the package. Their folder is found without PyTorch."""

from importlib.resources import files
from pathlib import Path

from renalnet.errors import CheckpointError


def packaged_folder() -> str:
    """Return the folder of what ships with the package: the localiser's network, and a model bundle if it was made.

    Raises:
        CheckpointError: the package was built without it.
    """
    folder = Path(str(files("renalnet"))) / "bundles" / "phantom"
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: the bundle of the package is missing; install renalnet again")
    return str(folder)
