"""The command line `python -m renalnet COMMAND`. Each command imports only what it needs, so that `--help` is quick."""

import typer

from renalnet.commands.describe import describe
from renalnet.commands.evaluate import evaluate
from renalnet.commands.export import export
from renalnet.commands.phantom import phantom
from renalnet.commands.plan import plan
from renalnet.commands.predict import predict
from renalnet.commands.prepare import prepare
from renalnet.commands.store import describe_store, export_store, verify_store
from renalnet.commands.train import train

HELP = """Segment kidneys and renal tumors in contrast CT scans.

The usual order is `prepare`, `train`, `predict` and `evaluate`. Each command has its own --help.
--version prints the version.
"""
app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=HELP
)
store_app = typer.Typer(no_args_is_help=True, help="Verify a store, show its content, or export it.")
app.add_typer(store_app, name="store")
store_app.command("verify")(verify_store)
store_app.command("describe")(describe_store)
store_app.command("export")(export_store)
for command in (phantom, prepare, train, describe, predict, export, plan, evaluate):  # the order in --help
    app.command()(command)
