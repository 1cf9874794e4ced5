"""`otcnode`, and `python -m otcnode`: the command line, from before its modules are there."""

import importlib
import sys

from otcnode.cli.exits import EXIT_INTERRUPTED


def main() -> None:
    """Whoever presses Ctrl-C while the command line is loaded is answered as at any other time."""
    try:
        importlib.import_module("otcnode.cli.main").main()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
