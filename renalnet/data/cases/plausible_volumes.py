"""Plausible volumes of a kidney and a tumor.

They have their own module because planning and tables judge masks by them, and need nothing that reads an image.
"""

from typing import Final

PLAUSIBLE_KIDNEY_ML: Final = (30.0, 400.0)
"""Plausible volume of one kidney. It is 48-370 ml in 110 patients of KiTS19, and 86-263 ml in the paper."""
PLAUSIBLE_TUMOR_ML: Final = (1.0, 500.0)
"""Range of tumor volumes: 2-145 ml in the paper, 1.7-245 ml in 110 KiTS19 cases."""
