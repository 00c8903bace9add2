"""The files by which a model bundle finds kidneys: copies of those of the store that its model was trained on."""

from renalnet.data.localise.atlas import ATLAS_FILE
from renalnet.data.store.reader import Store
from renalnet.localiser.network import LOCALISER_FILE
from renalnet.runtime import storage


def write_finder_files(store: Store, folder: str) -> None:
    """Write the atlases and the localiser's network of a store into the folder of a bundle, as far as it has them."""
    for name, entry in ((ATLAS_FILE, store.manifest.atlas), (LOCALISER_FILE, store.manifest.localiser)):
        if entry:
            storage.write_bytes(storage.join(folder, name), store.read_beside(entry))
