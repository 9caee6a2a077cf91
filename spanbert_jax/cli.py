"""The door of every command line: runs a `main` and turns a user's mistake into one line on stderr."""

import sys
from collections.abc import Callable, Sequence

from absl import app

from spanbert_jax.errors import UserError


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs an absl `main(argv)`; a `UserError` becomes `error: ...` on stderr and exit code 2."""

    def guarded(argv: Sequence[str]) -> int | None:
        try:
            return main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    app.run(guarded)
