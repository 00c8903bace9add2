"""Kidney and renal tumor segmentation in contrast CT with 3D_FCN_PPM (Yang et al., ICPR 2018).

The names below are the public Python interface; `docs/python-api.md` shows the functions in use. A name is imported
when it is first used, so `import renalnet` loads neither PyTorch nor SimpleITK.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from renalnet.config.labels import KIDNEY_TUMOR, KITS23, LabelSet, label_set
    from renalnet.data.images.volume import Grid, Volume, read_volume, write_volume
    from renalnet.data.store.reader import Store, open_store
    from renalnet.errors import RenalnetError
    from renalnet.evaluation.folders import evaluate_folders
    from renalnet.evaluation.table import measure
    from renalnet.planning.files import plan_mask
    from renalnet.prediction.outcome import Prediction
    from renalnet.prediction.predictor import Predictor, load_predictor

__version__ = "0.1.0"
__all__ = [
    "KIDNEY_TUMOR",
    "KITS23",
    "Grid",
    "LabelSet",
    "Prediction",
    "Predictor",
    "RenalnetError",
    "Store",
    "Volume",
    "evaluate_folders",
    "label_set",
    "load_predictor",
    "measure",
    "open_store",
    "plan_mask",
    "read_volume",
    "write_volume",
]

_HOMES: Final = {
    "KIDNEY_TUMOR": "renalnet.config.labels",
    "KITS23": "renalnet.config.labels",
    "Grid": "renalnet.data.images.volume",
    "LabelSet": "renalnet.config.labels",
    "Prediction": "renalnet.prediction.outcome",
    "Predictor": "renalnet.prediction.predictor",
    "RenalnetError": "renalnet.errors",
    "Store": "renalnet.data.store.reader",
    "Volume": "renalnet.data.images.volume",
    "evaluate_folders": "renalnet.evaluation.folders",
    "label_set": "renalnet.config.labels",
    "load_predictor": "renalnet.prediction.predictor",
    "measure": "renalnet.evaluation.table",
    "open_store": "renalnet.data.store.reader",
    "plan_mask": "renalnet.planning.files",
    "read_volume": "renalnet.data.images.volume",
    "write_volume": "renalnet.data.images.volume",
}
"""Module of each public name."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'renalnet' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
