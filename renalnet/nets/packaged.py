"""The model bundle that ships with the package."""

from pathlib import Path

from renalnet.bundles import packaged_folder
from renalnet.config.training import PACKAGED
from renalnet.errors import CheckpointError
from renalnet.nets.bundle import CONFIG_FILE
from renalnet.runtime import storage


def packaged_bundle() -> str:
    """Return the folder of the model bundle that ships with the package; painted phantoms alone have taught it.

    Raises:
        CheckpointError: the package was built without it.
    """
    folder = packaged_folder()
    if not (Path(folder) / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder}: the bundle of the package is missing; run `make bundle`, or name a bundle")
    return folder


def bundle_folder(model: str | Path) -> str:
    """Return the folder of a model bundle: `model` itself, or the packaged bundle for the word `PACKAGED`.

    Raises:
        CheckpointError: the package was built without its bundle.
    """
    return packaged_bundle() if str(model) == PACKAGED else str(model)


def absolute_bundle(model: str) -> str:
    """Return a model bundle as a name that is valid in every process: an absolute path, a URI, or `PACKAGED`."""
    # Not the folder of this process, because the package may be elsewhere on another node.
    return model if model == PACKAGED else storage.absolute(model)
