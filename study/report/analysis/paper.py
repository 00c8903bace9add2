"""What the reader must know about the paper's numbers (Yang et al., ICPR 2018, Table I) beside those of a study.

The numbers themselves are in `renalnet.config.networks`.
"""

from typing import Final

from renalnet.config import LabelSet
from renalnet.config.labels import with_article

NOT_COMPARABLE: Final = (
    "The paper's columns are quoted from its Table I and describe its own 50 test patients. "
    "They are shown for orientation only: the data differ, so the numbers cannot be compared."
)
FOOTNOTES: Final[tuple[str, ...]] = (
    "The paper contradicts itself on 3D_FCN_PPM (Dice kidney / tumor): Table I 0.931 / 0.779, its abstract "
    "0.923 / 0.826, its text and conclusion 0.931 / 0.802. Table I is quoted.",
    "The paper's tumor distance of 2D PSPNet is printed “12.0.8 ± 12.82” and is read here as 12.08.",
    "The paper's kidney distances (4.2 px at a Dice of 0.93) are hardly plausible; they are quoted, not reproduced.",
)


def where_present(labels: LabelSet) -> str:
    """Return the sentences that say over which cases the tables average the lesions of a label set."""
    lesion = with_article(labels.tumor.title if len(labels.lesions) == 1 else "lesion")
    return (
        f"Dice and distance of {lesion} are means over the cases that have one, as in the paper's cohort. Over all "
        "cases, each healthy one without a false alarm would count as a Dice of 1."
    )
