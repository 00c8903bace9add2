"""The files by which a model bundle finds kidneys: copies of those of the store that its model was trained on."""

from typing import Final

from renalnet.bundles import packaged_folder
from renalnet.data.localise.atlas import ATLAS_FILE
from renalnet.data.store.reader import Store
from renalnet.runtime import storage

LOCALISER_FILE: Final = "localiser.safetensors"
"""Name of the file in a store and in a model bundle."""


def packaged_localiser() -> str:
    """Return the file of the localiser's network that ships with the package.

    Raises:
        CheckpointError: the package was built without it.
    """
    return storage.join(packaged_folder(), LOCALISER_FILE)


def write_finder_files(store: Store, folder: str) -> None:
    """Write the atlases and the localiser's network of a store into the folder of a bundle, as far as it has them."""
    for name, entry in ((ATLAS_FILE, store.manifest.atlas), (LOCALISER_FILE, store.manifest.localiser)):
        if entry:
            storage.write_bytes(storage.join(folder, name), store.read_beside(entry))
