"""Entry point of `python -m renalnet`; see `renalnet.commands`."""

from renalnet.commands.app import app
from renalnet.commands.line import run


def main() -> None:
    """Run the command line `renalnet`."""
    run(app)


if __name__ == "__main__":
    main()
