"""How far a long job is: a bar on a terminal, a line now and then elsewhere; always on stderr."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

_SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def progress(stage: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`; `total` is None where the end is not known beforehand."""
    if sys.stderr.isatty():
        with _bar(stage, total, unit) as advance:
            yield advance
    else:
        with _lines(stage, total, unit) as advance:
            yield advance


@contextlib.contextmanager
def _bar(stage: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(stage, total=total)
        yield lambda count: bar.advance(task, count)


@contextlib.contextmanager
def _lines(stage: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    start = last = time.monotonic()
    done = 0
    of_total = "" if total is None else f" of {total}"

    def line() -> None:
        print(f"{stage}: {done}{of_total} {unit}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            line()

    yield advance
    line()
