"""Checks of a labelled whole CT by the localiser: wrong axes, a wrong spacing, and labels where no kidney is."""

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from renalnet.data.cases.findings import Finding
from renalnet.data.cases.loading import LoadedCase
from renalnet.localiser.coarse_scan import coarse_scan
from renalnet.localiser.orientation import HELD_SHARE, find_in, is_mirrored, labelled_share, wrong_axes

if TYPE_CHECKING:
    from renalnet.localiser.network import CoarseNetwork

_MIRRORED: Final = (
    "the liver seems to be on the left: more soft tissue above the left kidney than above the right one; check the "
    "axis from left to right, unless the patient has situs inversus"
)


def check_place(loaded: LoadedCase) -> list[Finding]:
    """Return an error for a scan with wrong axes, and a warning for a mirrored one or a label that is elsewhere.

    Args:
        loaded: a whole CT, not an ROI already cut. Without a label, nothing is checked.
    """
    if not loaded.body.array.any():
        return []
    scan = coarse_scan(loaded.case, loaded.image, loaded.body)
    kidneys = find_in(_network(), scan)
    share = labelled_share(kidneys, scan)
    if share >= HELD_SHARE:
        return [Finding(loaded.case, "warning", "mirrored", _MIRRORED)] if is_mirrored(kidneys, scan) else []
    problem = wrong_axes(_network(), scan, share)
    if problem:
        message = f"the scan is {problem}: kidneys are found at the label only after a correction; correct its header"
        return [Finding(loaded.case, "error", "wrong-axes", message)]
    message = f"the boxes of found kidneys hold {share:.0%} of the label, less than {HELD_SHARE:.0%}; check that label "
    return [Finding(loaded.case, "warning", "label-elsewhere", message + "and scan belong together, and their axes")]


# The one that ships with the package, because the store's own is not trained before all scans are checked.
@lru_cache(maxsize=1)
def _network() -> "CoarseNetwork":
    # Imports PyTorch, which cases that are already cut to their ROI do not need.
    from renalnet.localiser.network import packaged_network

    return packaged_network()
