"""The command line. Starting it imports neither torch nor numpy: a command imports what it uses."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs a command; errors are one line, and the exit code says what happened (see `regraft --help`)."""
    # Waiting OpenMP threads burn the cores of shared machines; torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

    from regraft.cli.app import app
    from regraft.core.errors import Interrupted, RegraftError

    try:
        app()
    except RegraftError as error:
        print(f"regraft: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as left:  # typer ends so on Ctrl-C, without a word
        if left.code == Interrupted.exit_code:
            print("regraft: stopped", file=sys.stderr)
        raise
    except OSError as error:  # a full disk, a lost right: the machine's state, not a fault of the program
        place = f"{error.filename}: " if error.filename else ""
        print(f"regraft: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(RegraftError.exit_code)
