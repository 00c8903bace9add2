"""Everything that runs on Ray: the driver of a study, its trials and its tasks."""

import sys

from study.execution.own_ray import ask_for_token, bound_memory_losses

if "ray" not in sys.modules:  # an imported Ray has read its variables
    ask_for_token()
    bound_memory_losses()
