"""Writes the reference pages that repeat the code: ``python -m tests.support.reference_docs``.

A test compares the pages with what this would write, so that neither can go stale.
"""

import ast
import inspect
from pathlib import Path

from lattice import errors, limits
from lattice.errors import LatticeError
from tests.support import command_reference, performance_docs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

ERRORS_HEAD = """\
# Error codes

One list, used in answers to calls, control replies, events, `--output json`, and the HTTP
provider's `Lattice-Error` header. *Executed* says whether the request had any effect: `no` means it
is safe to try again, here or elsewhere; `unknown` means it is safe only if doing it twice does no
harm. *Retried* ones are repeated by the runtime itself, at most twice, within the deadline.

| code | meaning | executed | retried |
|---|---|---|---|
"""

ERRORS_TAIL = """
An error also carries a text for people, the id of the host on which it happened (`at`), and for
some codes figures (`detail`): the limit and the measured value, the kind of a trap and the guest's
backtrace.
"""

LIMITS_HEAD = """\
# Limits

Everything is bounded. A name ends in its unit: `_S` seconds, `_BYTES` bytes, otherwise a count.
Those with a setting are an operator's to move: an environment variable of the host, or where the
setting says.

| limit | value | setting | why |
|---|---|---|---|
"""

SETTINGS = {
    "CPU_TIME_S": "`LATTICE_CPU_TIME_S`",
    "MEMORY_BYTES": "`LATTICE_MEMORY_BYTES`",
    "INSTANCES_MAX": "`LATTICE_INSTANCES_MAX`",
    "MAILBOX_CALLS": "`LATTICE_MAILBOX_CALLS`",
    "REPLICAS_MAX": "`LATTICE_REPLICAS`",
    "GUEST_MEMORY_SHARE": "`LATTICE_GUEST_MEMORY_BYTES`, in bytes",
    "THROTTLE_TRAPS": "`LATTICE_THROTTLE_TRAPS`",
    "THROTTLE_S_MAX": "`LATTICE_THROTTLE_S_MAX`",
    "CODE_BYTES": "`LATTICE_CODE_BYTES`",
    "REUSE_CALLS": "annotation `lattice.dev/instances-uses`",
    "REUSE_S": "annotation `lattice.dev/instances-age-seconds`",
    "HEARTBEAT_S": "`LATTICE_HEARTBEAT_S`",
    "ARTEFACT_CACHE_BYTES": "`LATTICE_ARTEFACT_CACHE_BYTES`",
    "CONTROL_TIMEOUT_S": "`lattice --timeout-ms`",
    "CALL_TIMEOUT_S": "header `Lattice-Timeout-Ms`, a link's `timeout_ms`",
    "DRAIN_TIMEOUT_S": "`lattice stop host --host-timeout`",
}
"""Where an operator moves a limit."""

UNITS = {"KIB", "MIB"}


def render_errors() -> str:
    rows = [
        f"| `{code}` | {_first_line(cls)} | {cls.executed} | {'yes' if cls.retryable else ''} |"
        for code, cls in errors.BY_CODE.items()
    ]
    return ERRORS_HEAD + "\n".join(rows) + "\n" + ERRORS_TAIL


def render_limits() -> str:
    tree = ast.parse(inspect.getsource(limits))
    rows = []
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        match statement, following:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(reason))),
            ) if name not in UNITS:
                why = " ".join(reason.split()).replace("``", "`")
                value = _spelled(name, getattr(limits, name))
                rows.append(f"| `{name}` | {value} | {SETTINGS.get(name, '')} | {why} |")
    return LIMITS_HEAD + "\n".join(rows) + "\n"


def render_cli() -> str:
    """The page as it is, with its tables of commands written anew."""
    return command_reference.replaced((DOCS / "cli.md").read_text())


PAGES = {
    DOCS / "cli.md": render_cli,
    DOCS / "errors.md": render_errors,
    DOCS / "limits.md": render_limits,
    **performance_docs.PAGES,
}


def _first_line(cls: type[LatticeError]) -> str:
    return (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")


def _spelled(name: str, value: float) -> str:
    if "BYTES" in name:
        for unit, size in (("MiB", limits.MIB), ("KiB", limits.KIB)):
            if value >= size and value % size == 0:
                return f"{value // size} {unit}"
    seconds = name.endswith(("_S", "_S_MAX")) and not name.endswith("_PER_S")
    return f"{value:,g}" + (" s" if seconds else "")


if __name__ == "__main__":
    for page, render in PAGES.items():
        page.parent.mkdir(exist_ok=True)
        page.write_text(render())
