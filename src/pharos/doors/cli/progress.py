"""A progress bar on stderr for work whose length is told as it goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watched(what: str) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """A bar: call the first with what is done and what there is to do, the second with what is at work.

    Nothing is shown where stderr is no terminal.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from pharos.doors.cli.app import console

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield (
            lambda done, total: bar.update(task, completed=done, total=total),
            lambda words: bar.update(task, description=f"{what}: {words}"),
        )
