"""Everything that runs on Ray: the driver of a study, its trials and its tasks."""

import sys

from study.execution.own_ray import ask_for_token

if "ray" not in sys.modules:  # an imported Ray has read its variables
    ask_for_token()
