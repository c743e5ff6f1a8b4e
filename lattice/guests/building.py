"""Builds a project: its language's own tools make a module or a component, which is then looked at.

What was built of the same files by the same recipe is not built again. What was remembered of the
last build stands in ``.lattice/built.json`` of the project's folder, which may be deleted.
"""

import asyncio
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lattice import binaries, errors, limits
from lattice.binaries import Binary
from lattice.guests import commands, recipes, tools
from lattice.guests.recipes import Step
from lattice.guests.tools import Toolbox
from lattice.project import Abi, Kind, Language, Project

BUILD_TIMEOUT_S = 1800.0
"""For one step: a large program in Rust, built for the first time on a small machine."""

FILES_MAX = 20_000
"""Files of a project's source; more is a folder that its globs should not have reached."""

SOURCE_BYTES_MAX = 512 * limits.MIB
"""All of them together: they are read to see whether they changed."""

LINKS_TOLD_MAX = 3
"""Symbolic links that a failed build names; the first will do."""

MEMORY = Path(".lattice", "built.json")

_ANSWERED = {
    (Kind.HTTP, Abi.COMPONENT): "wasi:http/incoming-handler",
    (Kind.MESSAGING, Abi.COMPONENT): "wasmcloud:messaging/handler",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build made."""

    path: Path
    size_bytes: int
    digest: str
    """``sha256:`` and hexadecimal digits."""
    binary: Binary
    is_new: bool
    """False when nothing had changed since the last build."""
    elapsed_s: float
    output: str
    """What the tool had to say, such as warnings."""


class BuildFailed(errors.InvalidRequest):
    """A tool refused the project's files; the text ends with what it said."""


async def build(
    project: Project,
    toolbox: Toolbox,
    *,
    again: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Built:
    """Build a project, unless nothing has changed since the last time; ``again`` builds anyway.

    ``say`` is told what goes on, a line at a time. Cancelling ends the tools and leaves the output
    of the last build, or whatever a tool had written of the next one; that is then built again.

    Raises:
        BuildFailed: a tool failed, or what it made is no such actor.
        NotFound: a tool is missing; the remedy says how to get it.
        InvalidRequest, PayloadTooLarge: the project can't be built as it is.
        DeadlineExceeded: a step took longer than ``BUILD_TIMEOUT_S``.
        Unavailable: a tool could not be installed.
    """
    began_s = time.monotonic()
    rust = tools.WASIP2
    if project.actor.language is Language.RUST and not project.build.command:
        rust = await toolbox.rust_target()
    steps = recipes.recipe(project, rust)
    # Files are read in a thread: whoever watches them serves an actor meanwhile.
    *preparing, making = steps
    fingerprint = await asyncio.to_thread(_fingerprint, project, making)
    said = ""
    is_new = again or not await asyncio.to_thread(_is_current, project, fingerprint)
    if is_new:
        (project.folder / MEMORY).unlink(missing_ok=True)
        project.output.parent.mkdir(parents=True, exist_ok=True)
        for step in preparing:
            say(step.says)
            await _run(step, project, toolbox)
        if preparing:
            # They write lock files, which are part of the source.
            fingerprint = await asyncio.to_thread(_fingerprint, project, making)
        say(making.says)
        said = await _run(making, project, toolbox)
    wasm = _made(project)
    binary = _checked(project, wasm)
    digest = hashlib.sha256(wasm).hexdigest()
    if is_new:
        _remember(project, fingerprint, digest)
    return Built(
        path=project.output,
        size_bytes=len(wasm),
        digest=f"sha256:{digest}",
        binary=binary,
        is_new=is_new,
        elapsed_s=time.monotonic() - began_s,
        output=said,
    )


async def _run(step: Step, project: Project, toolbox: Toolbox) -> str:
    environment = dict(toolbox.environment)
    words = step.arguments
    if step.tool is not None:
        found = await toolbox.find(step.tool)
        environment = found.environment(environment)
        program = found.program.with_name(step.companion) if step.companion else found.program
        words = (str(program), *words)
    outcome = await commands.run(
        words,
        folder=project.folder,
        environment={**environment, **step.environment},
        timeout_s=BUILD_TIMEOUT_S,
    )
    if outcome.status != 0:
        raise BuildFailed(
            f"{step.says} failed with status {outcome.status}{_led_out(project)}"
            f":\n{outcome.output}".rstrip(":\n")
        )
    if step.product is not None and step.product.exists():
        shutil.copyfile(step.product, project.output)
    return outcome.output


def _led_out(project: Project) -> str:
    """A hint at links that lead out of the project's folder, if it has any.

    Tools that are WebAssembly themselves, as those for Python and JavaScript are, see the folder
    alone, and say of what such a link leads to that it is not there.
    """
    home = project.folder.resolve()
    seen = {*project.folder.glob("*"), *project.folder.glob("*/*"), *project.sources()}
    links = sorted(
        str(path.relative_to(project.folder))
        for path in seen
        if path.is_symlink()
        and not path.resolve().is_relative_to(home)
        and not project.is_made(path)
    )
    if not links:
        return ""
    return (
        f" (perhaps as {', '.join(links[:LINKS_TOLD_MAX])} links out of the folder, and not every"
        " tool follows: put there what it links to)"
    )


def _made(project: Project) -> bytes:
    try:
        with project.output.open("rb") as file:
            wasm = file.read(limits.MODULE_BYTES_MAX + 1)
    except OSError as error:
        raise BuildFailed(
            f"the build was done, but there is no {project.actor.output}: {error.strerror}"
        ) from None
    if len(wasm) > limits.MODULE_BYTES_MAX:
        size = project.output.stat().st_size
        raise errors.PayloadTooLarge(project.actor.output, size, limits.MODULE_BYTES_MAX)
    return wasm


def _checked(project: Project, wasm: bytes) -> Binary:
    """Whether it is what the project file says, by what it imports and exports."""
    output = project.actor.output
    try:
        binary = binaries.read(wasm)
    except errors.InvalidRequest as error:
        raise BuildFailed(f"{output} is not what was to be built: {error.text}") from None
    wanted = binaries.Abi.COMPONENT if project.actor.abi is Abi.COMPONENT else binaries.Abi.WAPC
    if binary.abi is not wanted:
        raise BuildFailed(
            f"{output} speaks {binary.abi}, and {project.actor.abi} was wanted:"
            " see actor.abi in the project file"
        )
    exported = {export.name.partition("@")[0] for export in binary.exports}
    if project.actor.abi is Abi.WAPC and "__guest_call" not in exported:
        raise BuildFailed(f"{output} does not export __guest_call: nobody could call it")
    interface = _ANSWERED.get((project.actor.kind, project.actor.abi))
    if interface is not None and interface not in exported:
        raise BuildFailed(
            f"{output} does not export {interface}, as actors of kind {project.actor.kind} do;"
            f" it exports: {', '.join(sorted(exported)) or 'nothing'}"
        )
    return binary


def _fingerprint(project: Project, making: Step) -> str:
    """A digest of all that decides what is built."""
    digest = hashlib.sha256()
    digest.update(repr((making.tool, making.arguments, making.environment)).encode())
    sources = project.sources()
    if len(sources) > FILES_MAX:
        raise errors.InvalidRequest(
            f"build.sources covers {len(sources)} files, over the limit of {FILES_MAX}:"
            " name narrower patterns"
        )
    size = 0
    for path in sources:
        size += path.stat().st_size
        if size > SOURCE_BYTES_MAX:
            raise errors.PayloadTooLarge("the files of build.sources", size, SOURCE_BYTES_MAX)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(project.folder)}\0{content}\n".encode())
    return digest.hexdigest()


def _is_current(project: Project, fingerprint: str) -> bool:
    try:
        remembered = json.loads((project.folder / MEMORY).read_bytes())
        made = hashlib.sha256(project.output.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return False
    return bool(remembered == {"sources": fingerprint, "output": made})


def _remember(project: Project, fingerprint: str, digest: str) -> None:
    path = project.folder / MEMORY
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"sources": fingerprint, "output": digest}))
