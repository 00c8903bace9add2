"""`renalnet describe`: a network and its cost."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from renalnet.commands.options import Set
from renalnet.config.presets import TRAIN_PRESETS

if TYPE_CHECKING:
    from renalnet.nets.describe import NetDescription


def describe(
    preset: Annotated[str, typer.Option(help=f"Start from: {', '.join(TRAIN_PRESETS)}.")] = "paper",
    set_: Set = None,
) -> None:
    """Show a network's layers, parameters, receptive field, cost, and what of it is reconstruction."""
    from renalnet.config import override
    from renalnet.config.presets import train_preset
    from renalnet.nets.describe import describe as describe_net

    config = override(train_preset(preset), set_ or [])
    network = describe_net(config.net, config.patch.shape)
    console = Console()
    console.print(_layer_table(network))
    batch, weights_mb = config.optim.batch_size, network.num_parameters * 4 / 2**20
    kept_mb, kept_bfloat16_mb = network.training_memory_mb, network.training_memory_bfloat16_mb
    facts = {
        "input (z, y, x)": network.shape,
        "parameters": f"{network.num_parameters:,}, {weights_mb:,.1f} MiB",
        "gradients and momentum": f"{2 * weights_mb:,.1f} MiB",
        "residual blocks, convolutions in them": f"{network.num_residual_blocks}, {network.num_block_convolutions}",
        "one forward pass of one input": f"{2 * network.multiply_adds / 1e9:,.1f} GFLOP, "
        f"{network.multiply_adds:,} multiply-adds",
        f"activations kept for training, batch {batch}": f"{batch * kept_mb:,.0f} MiB in float32, "
        f"{batch * kept_bfloat16_mb:,.0f} MiB in bfloat16",
        "receptive field": f"{network.receptive_field} voxels, with pyramid pooling {network.receptive_field_pooled}",
    }
    for name, value in facts.items():
        console.print(f"{name}: {value}")
    console.print("Decided here, because the paper does not say:")
    for assumption in network.assumptions:
        console.print(f"- {assumption}")


def _layer_table(network: "NetDescription") -> Table:
    table = Table(title=network.config.name, box=None, padding=(0, 1, 0, 0))
    table.add_column("layer", overflow="fold")
    for name in ("kind", "kernel", "dilation", "width", "size", "weights", "10⁶ MAC"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for layer in network.layers:
        counts = (str(layer.kernel), str(layer.dilation), str(layer.channels), "×".join(map(str, layer.size)))
        costs = (f"{layer.num_parameters:,}", f"{layer.multiply_adds / 1e6:,.1f}")
        table.add_row(layer.name.removesuffix(".convolution"), layer.kind, *counts, *costs)
    return table
