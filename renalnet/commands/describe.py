"""`renalnet describe`: the layers and the cost of a network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from renalnet.commands.options import Set, TrainPreset
from renalnet.config import TrainConfig

if TYPE_CHECKING:
    from renalnet.nets.describe import NetDescription


def describe(
    preset: TrainPreset = None,
    set_: Set = None,
    effects: Annotated[
        Path | None,
        typer.Option(
            help="Table of an ablation, the CSV file of `python -m study.bench parts`. The default is that of the "
            "project, if it is there."
        ),
    ] = None,
) -> None:
    """Show a network's layers, parameters, receptive field and cost, which of its parts are reconstruction, and what
    an ablation says that they are worth."""
    from renalnet.config import chosen_labels, override
    from renalnet.config.presets import chosen_preset, train_preset
    from renalnet.nets.describe import describe as describe_net

    config = override(train_preset(chosen_preset(preset), chosen_labels(set_ or [])), set_ or [])
    network = describe_net(config.net, config.labels, config.patch.shape)
    console = Console(markup=False)
    console.print(_layer_table(network))
    for name, value in _facts(config, network).items():
        console.print(f"{name}: {value}")
    console.print("Choices of this project, where the paper does not say:")
    for assumption in network.assumptions:
        console.print(f"- {assumption}")
    _print_worth(console, effects)


def _print_worth(console: Console, given: Path | None) -> None:
    """Print what each choice is worth by a table: the given one, or the project's own if there is one."""
    from renalnet.evaluation.part_effects import OWN_TABLE, read_effects, worth_lines

    path = given or (OWN_TABLE if OWN_TABLE.exists() else None)
    source = f"from {path}" if path else "measured by `python -m study.bench parts`"
    console.print(f"What other choices change in the tumor Dice of painted test cases, {source}:", soft_wrap=True)
    for line in worth_lines(read_effects(path) if path else []):
        console.print(f"- {line}")


def _facts(config: TrainConfig, network: "NetDescription") -> dict[str, str]:
    batch = config.optim.batch_size
    weights_mb = network.num_parameters * 4 / 2**20  # float32
    kept_mb = batch * network.training_memory_mb
    kept_bfloat16_mb = batch * network.training_memory_bfloat16_mb
    return {
        "input (z, y, x)": str(network.shape),
        "parameters": f"{network.num_parameters:,}, {weights_mb:,.1f} MiB",
        "gradients and momentum": f"{2 * weights_mb:,.1f} MiB",
        "residual blocks, convolutions in them": f"{network.num_residual_blocks}, {network.num_block_convolutions}",
        # A multiply-add is two floating-point operations.
        "one forward pass of one input": f"{2 * network.multiply_adds / 1e9:,.1f} GFLOP, "
        f"{network.multiply_adds:,} multiply-adds",
        f"activations kept for training, batch {batch}": f"{kept_mb:,.0f} MiB in float32, "
        f"{kept_bfloat16_mb:,.0f} MiB in bfloat16",
        "receptive field": f"{network.receptive_field} voxels, with pyramid pooling {network.receptive_field_pooled}",
    }


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
