"""What a command prints: its result to standard output, everything else to standard error.

A result is text for people (rich tables, colour only on a terminal) or one line of JSON with
``wash``'s field names. A failure is its text, its code and its remedy, and an exit status.
"""

import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from lattice import errors, limits

FAILED = 1
INTERRUPTED = 130
"""What shells report for a program ended by Ctrl-C."""
PIPE_CLOSED = 141
"""What shells report for a program whose reader went away."""

EXIT_STATUS: Mapping[str, int] = {
    "actor_error": FAILED,
    "actor_trapped": FAILED,
    "cancelled": FAILED,
    "cpu_exceeded": FAILED,
    "memory_exceeded": FAILED,
    "provider_error": FAILED,
    "hop_limit": FAILED,
    "invalid_request": 2,
    "payload_too_large": 2,
    "not_found": 3,
    "not_running": 3,
    "no_link": 3,
    "unavailable": 4,
    "deadline_exceeded": 4,
    "conflict": 5,
    "already_exists": 5,
    "denied": 6,
    "overloaded": 7,
    "draining": 7,
    "internal": 70,
}
"""Exit status by error code; 70 is ``EX_SOFTWARE`` of ``sysexits.h``."""

BACKTRACE_LINES_MAX = 30
"""Lines of a trap's backtrace that are shown; a deep recursion has thousands."""

WIDTH_UNBOUNDED = 10_000
"""Columns of what is not a terminal: a program that reads a table must not find it wrapped."""


class Form(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a command, in both forms."""

    fields: Mapping[str, Any]
    """The JSON object, without ``success``."""
    text: Sequence[RenderableType]
    """What people see; strings are printed as they are, without markup."""
    raw: bytes | None = None
    """Bytes to be written instead of the text, untouched."""
    note: str = ""
    """What people should know besides, on standard error."""
    status: int = 0
    """Exit status: not 0 when the answer to what was asked is no."""


class Failed(errors.Unavailable):
    """Something that this command itself had started came to a bad end; exit status 1."""

    remedy = ""


def prepare_streams() -> None:
    """Have something to print to where a shell has closed it (``>&-``), and that takes any text."""
    # Never closed: they are for as long as the process.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As standard error has it: a terminal of ASCII must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")


def show(result: Result, form: Form) -> None:
    """Print a result to standard output.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    if form is Form.JSON:
        show_json({"success": result.status == 0, **result.fields})
    elif result.raw is not None:
        sys.stdout.buffer.write(result.raw)
    else:
        console = _console(stderr=False)
        for part in result.text:
            if isinstance(part, str):
                console.print(part, soft_wrap=True)
                continue
            with console.capture() as drawn:
                console.print(part)
            # The last column is filled up with blanks, which nobody sees until they compare.
            print(*(line.rstrip() for line in drawn.get().splitlines()), sep="\n")
    sys.stdout.flush()
    if result.note and form is Form.TEXT:
        note(result.note)


def show_json(value: Mapping[str, Any]) -> None:
    """Print one line of JSON, in ASCII: control characters in a stranger's text stay harmless."""
    print(json.dumps(value, separators=(",", ":")), flush=True)


def clear() -> None:
    """Begin anew at the top of a terminal; nothing where there is none."""
    console = _console(stderr=False)
    if console.is_terminal:
        console.clear()


def terminal() -> Console | None:
    """Standard output where it can be drawn on; None where it is no terminal."""
    console = _console(stderr=False)
    return console if console.is_terminal else None


def fail(error: errors.LatticeError, form: Form, *, debug: bool = False) -> int:
    """Print a failure and return the exit status that goes with it."""
    if debug:
        traceback.print_exception(error)
    if form is Form.JSON:
        try:
            show_json(failure_fields(error))
        except BrokenPipeError:
            raise
        except OSError:
            # Standard output takes nothing, which may be what failed: somebody should hear it.
            pass
        else:
            return exit_status(error)
    console = _console(stderr=True)
    for line in failure_lines(error):
        console.print(line, soft_wrap=True)
    return exit_status(error)


def exit_status(error: errors.LatticeError) -> int:
    if isinstance(error, Failed):
        return FAILED
    return EXIT_STATUS.get(error.code, FAILED)


def failure_fields(error: errors.LatticeError) -> dict[str, Any]:
    """A failure as JSON; ``at`` and ``detail`` only where there are any."""
    fields: dict[str, Any] = {
        "success": False,
        "error": error.text,
        "code": error.code,
        "remedy": error.remedy,
    }
    if error.at is not None:
        fields["at"] = error.at
    if error.detail:
        fields["detail"] = printable(error.detail)
    return fields


def failure_lines(error: errors.LatticeError) -> list[Text]:
    """A failure for people: what and which code, where, how it came, what to do."""
    first = Text.assemble(("error: ", "bold red"), visible(error.text), (f" [{error.code}]", "dim"))
    lines = [first]
    if error.at:
        lines.append(Text(f"  on host {visible(error.at)}"))
    if isinstance(backtrace := error.detail.get("backtrace"), str):
        frames = backtrace.splitlines()
        lines += [Text(f"  {visible(frame)}") for frame in frames[:BACKTRACE_LINES_MAX]]
        if len(frames) > BACKTRACE_LINES_MAX:
            lines.append(Text(f"  and {len(frames) - BACKTRACE_LINES_MAX} more"))
    if error.remedy:
        lines.append(Text.assemble(("remedy: ", "bold"), error.remedy))
    return lines


def note(text: str) -> None:
    """Say something that is not the result."""
    _console(stderr=True).print(Text(visible(text), style="dim"), soft_wrap=True)


def busy(text: str) -> AbstractContextManager[object]:
    """Show that something takes its time, on a terminal only."""
    console = _console(stderr=True)
    return console.status(Text(visible(text))) if console.is_terminal else nullcontext()


@contextmanager
def doing(form: Form) -> Iterator[Callable[[str], None]]:
    """Say what goes on, one thing after the other.

    On a terminal in one line that goes away, elsewhere a line each; nothing where the result is for
    a program.
    """
    console = _console(stderr=True)
    if form is not Form.TEXT:
        yield lambda _text: None
    elif console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(Text(visible(text)))
    else:
        yield note


@contextmanager
def progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is, on a terminal only; told by bytes done, and bytes in all."""
    console = _console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    with console.status(Text(visible(text))) as status:

        def show_progress(done: int, total: int) -> None:
            share = f"{done / limits.MIB:,.1f} of {total / limits.MIB:,.1f} MiB"
            status.update(Text(visible(f"{text}: {share}")))

        yield show_progress


Draw = Callable[[float, str], None]
"""Shows the share that is done, and a few words beside it."""


@contextmanager
def progress_bar(text: str) -> Iterator[Draw]:
    """Show a share of something as a bar, on a terminal only."""
    console = _console(stderr=True)
    if not console.is_terminal:
        yield lambda _share, _words: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, TextColumn("{task.fields[words]}", markup=False), console=console, transient=True
    ) as bar:
        task = bar.add_task(visible(text), total=1.0, words="")
        yield lambda share, words: bar.update(task, completed=share, words=words)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Columns under headings, without lines, so that ``awk`` and people read it alike."""
    columns = Table(*headings, box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns.columns:
        column.overflow = "fold"
    for row in rows:
        columns.add_row(*(Text(visible(cell)) for cell in row))
    return columns


def visible(text: str) -> str:
    """Text from elsewhere with its control characters spelled out: none may drive a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def printable(value: Any) -> Any:
    """A value of msgpack as one of JSON: bytes as text where they are, in hex where they aren't."""
    match value:
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return value.hex()
        case Mapping():
            return {_key(key): printable(item) for key, item in value.items()}
        case list() | tuple():
            return [printable(item) for item in value]
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def _key(key: Any) -> str:
    plain = printable(key)
    return plain if isinstance(plain, str) else json.dumps(plain)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to whoever runs the command; its own would leave the process with status 1."""
        raise BrokenPipeError


def _console(*, stderr: bool) -> Console:
    # Made anew for each use: the streams may have been replaced since the last one.
    console = _Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH_UNBOUNDED
    return console
