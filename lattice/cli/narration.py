"""What a command that stays up tells as it goes: lines for people, one object a line for tools."""

import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.text import Text

from lattice import errors
from lattice.cli import output
from lattice.cli.output import Form
from lattice.wire.logs import Line

HEAD_CHARS = 9
"""Width of the column that says what a line is about."""

STYLES = {
    "debug": "dim",
    "info": "",
    "warning": "yellow",
    "error": "red",
    "critical": "bold red",
}


class Narrator:
    """Tells what happens, on standard output."""

    def __init__(self, form: Form, *, now_s: Callable[[], float] = time.time) -> None:
        self._form = form
        self._now_s = now_s
        self._console = Console(markup=False, highlight=False, emoji=False)

    def tell(
        self,
        event: str,
        words: str,
        fields: Mapping[str, object] | None = None,
        *,
        style: str = "",
        head: str = "",
    ) -> None:
        """Say that something happened: in words for people, with ``fields`` for tools.

        ``head`` is the event in people's words.
        """
        if self._form is Form.JSON:
            output.show_json({"event": event, **(fields or {})})
            return
        lines = output.visible(words).splitlines() or [""]
        self._show(Text(lines[0], style=style), head or event, self._now_s())
        for line in lines[1:]:
            self._print(Text(f"  {line}", style=style))

    def step(self, text: str) -> None:
        """Say what is being done that takes its time."""
        self.tell("step", text, {"text": text}, style="dim", head="build")

    def fail(self, event: str, error: errors.LatticeError, *, head: str) -> None:
        """Say that something went wrong, and that life goes on."""
        if self._form is Form.JSON:
            output.show_json({"event": event, **output.failure_fields(error)})
            return
        remedy = f"\nremedy: {error.remedy}" if error.remedy else ""
        self.tell(event, f"{error.text} [{error.code}]{remedy}", style="red", head=head)

    def log(self, line: Line, host: str) -> None:
        """Show a line that the actor wrote, or its host about it."""
        if self._form is Form.JSON:
            output.show_json(
                {
                    "event": "log",
                    "time_ms": line.time_ms,
                    "level": line.level,
                    "by": line.by,
                    "text": line.text,
                    "call": line.call,
                    "host": host,
                }
            )
            return
        style = STYLES.get(line.level, "")
        first, *rest = output.visible(line.text).splitlines() or [""]
        head = line.level if line.by == "guest" else "host"
        self._show(Text(first, style=style), head, line.time_ms / 1000)
        for each in rest:
            self._print(Text(f"  {each}", style=style or "dim"))

    def _show(self, text: Text, head: str, time_s: float) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(time_s))
        milliseconds = int(time_s * 1000) % 1000
        self._print(
            Text.assemble(
                (f"{clock}.{milliseconds:03}  ", "dim"), (f"{head:<{HEAD_CHARS}} ", "bold"), text
            )
        )

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
