"""The command line: parse, call one function, show. Exit codes: 0 holds, 1 broken, 2 input, 3 can't tell."""

import os
import sys

from pharos.doors.cli.app import app
from pharos.quantity.errors import PharosError

__all__ = ["app", "main"]


def main() -> None:
    """Runs a command; a user's mistake is one message on stderr and exit code 2."""
    try:
        app(standalone_mode=True)
    except PharosError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # the reader of our output has gone; nothing is left to say, and nothing must fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except MemoryError:
        print("error: the sizes asked for do not fit in memory", file=sys.stderr)
        raise SystemExit(2) from None
