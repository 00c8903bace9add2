"""`python -m renalnet`."""

from renalnet.cli import app
from renalnet.command import run


def main() -> None:
    """Entry point."""
    run(app)


if __name__ == "__main__":
    main()
