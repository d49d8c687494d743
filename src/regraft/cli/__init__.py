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
    from regraft.core.errors import RegraftError

    try:
        code = app(standalone_mode=False)
    except RegraftError as error:
        print(f"regraft: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("regraft: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        code = 0
        sys.stdout = open(os.devnull, "w")
    except Exception as error:  # noqa: BLE001
        from click.exceptions import ClickException, Exit

        if isinstance(error, Exit):
            code = error.exit_code
        elif isinstance(error, ClickException):
            error.show()
            code = 2
        else:
            raise
    sys.exit(code or 0)
