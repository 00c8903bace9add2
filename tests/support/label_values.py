"""Values of the default label set, with which tests build label maps by hand."""

from typing import Final

KIDNEY: Final = 1
TUMOR: Final = 2
NUM_CLASSES: Final = 3
