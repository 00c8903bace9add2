"""The table of networks, and how a configuration names one."""

import re
import subprocess
import sys

import pytest

from renalnet.config import BASELINES, MAIN_NETWORK, NETWORKS, NetConfig, TrainConfig, override
from renalnet.config.networks import PAPER_BASELINES, entry_of
from renalnet.errors import ConfigError

PAPER = ("fcn_ppm", "unet3d", "pspnet2d")


def test_the_papers_networks_come_first_and_a_default_study_has_no_others() -> None:
    assert tuple(NETWORKS)[:3] == PAPER
    assert (PAPER[0], PAPER[1:]) == (MAIN_NETWORK, PAPER_BASELINES)
    assert tuple(NETWORKS)[1:] == BASELINES


def test_the_default_is_the_main_network() -> None:
    assert NetConfig().name == MAIN_NETWORK


def test_an_unknown_name_in_a_configuration_lists_the_known_ones() -> None:
    message = f"net.name = 'unet': unknown network; it must be one of {', '.join(NETWORKS)}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        override(TrainConfig(), ["net.name=unet"])


def test_schema_lists_the_names() -> None:
    schema = NetConfig.model_json_schema()["properties"]["name"]
    assert (schema["enum"], schema["type"], schema["default"]) == (list(NETWORKS), "string", MAIN_NETWORK)


def test_titles_colors_and_markers() -> None:
    entries = [entry_of(name) for name in PAPER]
    assert [entry.title for entry in entries] == ["3D_FCN_PPM", "3D U-Net", "2D PSPNet"]
    assert [entry.color for entry in entries] == ["#0072B2", "#E69F00", "#CC79A7"]
    assert [entry.marker for entry in entries] == ["o", "s", "^"]


def test_an_unknown_name_has_no_entry() -> None:
    with pytest.raises(ConfigError, match=r"'unet' is no network; did you mean 'unet3d'\?"):
        entry_of("unet")


def test_each_looks_different() -> None:
    assert len({entry.color for entry in NETWORKS.values()}) == len(NETWORKS)
    assert len({entry.title for entry in NETWORKS.values()}) == len(NETWORKS)


def test_the_tables_need_no_pytorch() -> None:
    probe = "import sys, renalnet.config.networks, renalnet.config.losses; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
