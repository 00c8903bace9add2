"""Everything that runs on Ray: the driver of a study, its trials and its tasks."""

import sys

from renalnet.runtime.machine import sleep_while_waiting
from study.execution.own_ray import ask_for_token

# Processes of a cluster import this package before PyTorch. They do not begin with a command line of this project.
sleep_while_waiting()

if "ray" not in sys.modules:  # an imported Ray has read this variable
    ask_for_token()
