"""A progress bar as a callback, and an orderly stop."""

from __future__ import annotations

from collections.abc import Callable


class Bar:
    """``with Bar("loihi") as progress: ... progress(0.5)``; silent where the output is no terminal."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self.bar = Progress(*columns, transient=True, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(label, total=1.0)

    def __enter__(self) -> Callable[[float], None]:
        self.bar.start()
        return lambda share: self.bar.update(self.task, completed=share)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
