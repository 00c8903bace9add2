"""Colors of the figures, each `#RRGGBB`.

The colors of networks are in `renalnet.config.networks`, those of labels in their label set.

Colors that appear in one figure differ, and no state of a trial has the color of a network.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

INK: Final = "#1F2933"
"""Text, marks of axes and lines of reference."""
FAINT: Final = "#D9DEE4"
"""Grid lines, the diagonal of the expected Dice, and hours saved by pruning."""
AXIS: Final = "#9AA5B1"
PAGE: Final = "#FFFFFF"
WINNER_COLOR: Final = "#D55E00"
"""The winner among the other trials of its network."""
PAPER_COLOR: Final = "#009E73"
"""The trial with the paper's values."""
STATE_COLORS: Final[Mapping[str, str]] = MappingProxyType(
    {"complete": "#0B6E4F", "pruned": "#F0E442", "failed": "#A61B1B", "paused": "#8F7FB8", "running": "#79B4DC"}
)
"""States of a trial."""
WINDOWS_COLOR: Final = "#8A8F98"
"""The intensity windows over the whole ROI."""
INSIDE_COLOR: Final = "#5B616B"
"""The threshold inside the true region."""
FREE_COLORS: Final = ("#009E73", "#56B4E9", "#B8A800")
"""Colors of Okabe and Ito (2008) for unknown names; their yellow is darkened, since the page is white."""
