"""`python -m study.dashboard RESULTS`: the live views of a study, running or finished, on loopback."""

import os
import sys
import webbrowser
from typing import Annotated

import typer

from renalnet.commands.line import run
from renalnet.runtime import storage
from study.dashboard.overview import Overview, StudyWindow
from study.dashboard.server import HOST, LiveViews, open_server
from study.records.results import Results
from study.search.journal import read_journal

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def dashboard(
    results: Annotated[str, typer.Argument(help="Results folder of a study, running or finished.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 for any free port.")] = 8080,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Serve the progress, trials, curves and importances of a study; print where Ray's dashboard and TensorBoard are.

    The study is read, never written. From another machine: ssh -L 8080:localhost:8080 HOST.
    """
    from optuna_dashboard import wsgi

    # The page prints commands with this path, which must work in any folder.
    folder = Results(storage.absolute(results))
    window = StudyWindow(folder)
    views = LiveViews(wsgi(read_journal(folder)), window.look, window.report)
    with open_server(views, port) as server:
        url = f"http://{HOST}:{server.server_port}"
        _print_addresses(url, window.look())
        if browser and _has_screen():
            webbrowser.open(url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")


def main() -> None:
    """Run the command line."""
    run(app)


def _print_addresses(url: str, overview: Overview) -> None:
    typer.echo(f"study '{overview.study}' in {overview.results}: {overview.line}")
    typer.echo(f"live views       {url}")
    typer.echo(f"Ray's dashboard  {overview.ray_url or 'none: the study runs on its own local Ray'}")
    typer.echo(f"TensorBoard      {overview.tensorboard_command}")
    typer.echo("Ctrl-C ends the dashboard; the study continues")
    # Output to a pipe is buffered and would appear only when the server ends.
    sys.stdout.flush()


def _has_screen() -> bool:
    """Whether a browser opens in a window. A text browser would take over the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    main()
