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
from study.search.journal import read_journal

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def dashboard(
    results: Annotated[str, typer.Argument(help="Results folder of a study, running or finished.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 takes a free one.")] = 8080,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Serve a study's trials, curves and importances, its progress, and say where Ray's dashboard and TensorBoard are.

    The study is read and never written. From another machine: ssh -L 8080:localhost:8080 HOST.
    """
    from optuna_dashboard import wsgi

    folder = storage.absolute(results)
    window = StudyWindow(folder)
    views = LiveViews(wsgi(read_journal(folder)), window.look)
    with open_server(views, port) as server:
        url = f"http://{HOST}:{server.server_port}"
        _say(url, window.look())
        if browser and _has_screen():
            webbrowser.open(url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")


def main() -> None:
    """Entry point."""
    run(app)


def _say(url: str, overview: Overview) -> None:
    typer.echo(f"study '{overview.study}' in {overview.results}: {overview.line}")
    typer.echo(f"live views       {url}")
    typer.echo(f"Ray's dashboard  {overview.ray_url or 'none known: the study runs on a Ray of its own'}")
    typer.echo(f"TensorBoard      {overview.tensorboard_command}")
    typer.echo("Ctrl-C ends this; the study goes on")
    sys.stdout.flush()


def _has_screen() -> bool:
    """Whether a browser would be a window; one in the terminal would take the terminal away."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    main()
