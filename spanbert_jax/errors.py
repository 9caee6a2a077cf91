"""How mistakes in what the user gave are told: one clear line, no traceback."""

import difflib
import errno
import os
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a flag, a config key or a file.

    The message is one line that names the flag or key, what was given, what was expected and what to do. Entry points
    print it and exit with code 2 (see `spanbert_jax.cli`); library users get an ordinary exception.
    """


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Returns " (did you mean X?)" for the option nearest to `name`, or "" when none is near."""
    near = difflib.get_close_matches(name, list(options), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error tells of a full disk or quota, outright or in the text that a library wrapped it in."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(os.strerror(code) in str(error) for code in codes)
