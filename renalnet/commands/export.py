"""`renalnet export`: the networks of a model bundle for other programs."""

from typing import Annotated, Literal

import typer
from rich.console import Console

from renalnet.commands.options import BundleArgument
from renalnet.config.training import PACKAGED
from renalnet.errors import InputError


def export(
    model: BundleArgument,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="Path of the files without their ending; of the folder for monai. The default is MODEL/model, or "
            "MODEL/monai.",
        ),
    ] = None,
    format_: Annotated[
        Literal["onnx", "monai"],
        typer.Option("--format", help="onnx: the networks, and a JSON file about them. monai: a MONAI bundle."),
    ] = "onnx",
) -> None:
    """Write the networks of a model bundle as ONNX, with a JSON file that describes how to use them.

    --format monai writes a folder that MONAI runs on images that are cut to one kidney. It must not exist.
    """
    from renalnet.inference.export import export_bundle
    from renalnet.inference.monai_bundle import export_monai
    from renalnet.nets.packaged import bundle_folder
    from renalnet.runtime.storage import join

    if model == PACKAGED and out is None:
        raise InputError(f"export {PACKAGED}: its folder belongs to the package; name where to write with --out")
    folder = bundle_folder(model)
    if format_ == "monai":
        written = [export_monai(folder, out or join(model, "monai"))]
    else:
        written = export_bundle(folder, out or join(model, "model"))
    # A path may hold square brackets, which rich reads as markup, and a wrapped path cannot be copied.
    for path in written:
        Console(soft_wrap=True, highlight=False).print(path, markup=False)
