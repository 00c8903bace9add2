"""docs/gpus.md states the sizes that `renalnet describe` computes."""

import re

import pytest
from support.documents import read

from renalnet.config.presets import train_preset
from renalnet.nets.describe import describe

ROW = r"^\| `{}` \| (\d+) of (\d+)×(\d+)×(\d+) \| ([\d,]+) \| ([\d.]+) MiB \| ([\d,]+) MiB \| ([\d,]+) MiB \|$"


@pytest.mark.parametrize("preset", ["paper", "anatomy", "quick"])
def test_memory_of_a_trial(preset: str) -> None:
    row = re.search(ROW.format(preset), read("docs/gpus.md"), re.MULTILINE)
    assert row is not None
    batch, *shape, parameters, weights_mb, kept_mb, kept_bfloat16_mb = (float(x.replace(",", "")) for x in row.groups())
    config = train_preset(preset)
    assert (batch, tuple(shape)) == (config.optim.batch_size, config.patch.shape)
    network = describe(config.net, config.labels, config.patch.shape)
    assert parameters == network.num_parameters
    # Float32 each.
    assert weights_mb == pytest.approx(3 * 4 * parameters / 2**20, abs=0.05)
    assert kept_mb == pytest.approx(batch * network.training_memory_mb, abs=0.5)
    assert kept_bfloat16_mb == pytest.approx(batch * network.training_memory_bfloat16_mb, abs=0.5)
    if preset == "paper":
        (step,) = re.findall(r"`paper` 4 · 3 · ([\d.]+) GFLOP", read("docs/gpus.md"))
        assert float(step) == pytest.approx(2 * network.multiply_adds / 1e9, abs=0.05)
