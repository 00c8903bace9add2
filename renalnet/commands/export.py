"""`renalnet export`: the networks of a bundle as ONNX."""

from typing import Annotated

import typer
from rich.console import Console


def export(
    model: Annotated[str, typer.Argument(help="The `best` folder of a study, or a run's.")],
    out: Annotated[
        str | None, typer.Option("--out", help="Path of the files without ending; default: MODEL/model.")
    ] = None,
) -> None:
    """Write a model bundle's networks as ONNX, with a JSON file of how they are used."""
    from renalnet.inference.export import export_bundle
    from renalnet.runtime.storage import join

    for path in export_bundle(model, out or join(model, "model")):
        Console(soft_wrap=True, highlight=False).print(path, markup=False)
