"""`renalnet export`: the networks of a model bundle as ONNX."""

from typing import Annotated

import typer
from rich.console import Console

from renalnet.commands.options import BundleArgument
from renalnet.config.training import PACKAGED
from renalnet.errors import InputError


def export(
    model: BundleArgument,
    out: Annotated[
        str | None, typer.Option("--out", help="Path of the files without their ending. The default is MODEL/model.")
    ] = None,
) -> None:
    """Write the networks of a model bundle as ONNX, with a JSON file that describes how to use them."""
    from renalnet.inference.export import export_bundle
    from renalnet.nets.packaged import bundle_folder
    from renalnet.runtime.storage import join

    if model == PACKAGED and out is None:
        raise InputError(f"export {PACKAGED}: its folder belongs to the package; name where to write with --out")
    # A path may hold square brackets, which rich reads as markup, and a wrapped path cannot be copied.
    for path in export_bundle(bundle_folder(model), out or join(model, "model")):
        Console(soft_wrap=True, highlight=False).print(path, markup=False)
