"""The door of every command line: flags, logging, and a user's mistake as one line on stderr."""

import logging
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags
from absl import logging as absl_logging

from spanbert_jax.errors import UserError


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs an absl `main(argv)`; a `UserError` or a bad flag becomes `error: ...` on stderr and exit code 2."""

    def guarded(argv: Sequence[str]) -> int | None:
        logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO, force=True)
        absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax and Grain tell of every file they touch
        for chatty in ("absl", "jax"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
        try:
            return main(argv)
        except UserError as error:
            return _fail(str(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    app.run(guarded, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(_fail(" ".join(str(error).split())))
    except (AttributeError, KeyError) as error:  # ml_collections' ways to say that a config has no such key
        found = re.search(r"[\"'](\w+)\\?[\"']", str(error))
        near = re.search(r'Did you mean "(\w+)"', str(error))
        given = [argument for argument in argv if found and re.search(rf"\.{found[1]}(\.|=|$)", argument)]
        if not given:
            raise
        hint = f" (did you mean {near[1]}?)" if near else ""
        sys.exit(_fail(f"{given[0]}: unknown config key {found[1]}{hint}"))  # type: ignore[index]
    except OSError as error:
        sys.exit(_fail(f"--config: cannot read the file: {' '.join(str(error).split())}"))
    except UserError as error:  # raised by a config file
        sys.exit(_fail(str(error)))


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
