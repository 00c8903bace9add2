"""A label set that a user might state: KiTS's labels and the renal vessels."""

from typing import Final

import yaml

from renalnet.config import LabelSet, label_set

VESSELS_YAML: Final = """
name: vessels
labels:
  - {name: kidney, value: 1, crop_share: 0.3}
  - {name: tumor, value: 2, lesion_of: kidney, loss_weight: 2.0, crop_share: 0.4}
  - {name: cyst, value: 3, lesion_of: kidney, loss_weight: 2.0, crop_share: 0.1}
  - {name: renal_artery, value: 4, loss_weight: 3.0, crop_share: 0.05}
  - {name: renal_vein, value: 5, loss_weight: 3.0, crop_share: 0.05}
"""
"""Content of the YAML file that states the set."""
VESSELS: Final[LabelSet] = label_set(yaml.safe_load(VESSELS_YAML))
CYST: Final = 3
"""Value of the cyst, here and in `KITS23`."""
ARTERY: Final = 4
VEIN: Final = 5
