"""`python -m renalnet`."""

from renalnet.commands.app import app
from renalnet.commands.line import run


def main() -> None:
    """Entry point."""
    run(app)


if __name__ == "__main__":
    main()
