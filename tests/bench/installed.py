"""What the bench is measured against, installed by itself, outside of the source tree.

``LATTICE_BENCH_DIR`` says where; otherwise it is below the user's cache directory. What is there
already is taken as it is: remove the directory for newer ones.
"""

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lattice.aio import processes

INSTALL_S_MAX = 120.0

CHAIN_PACKAGES = ("fastapi", "uvicorn[standard]", "nats-py", "uvloop")
WRK_PACKAGES = ("wrk", "libluajit-5.1-2")


class MissingError(Exception):
    """A peer that can't be had on this machine; its rows are not measured."""


@dataclass(frozen=True, slots=True)
class Wrk:
    """The load generator, and where the libraries are that come with it."""

    path: Path
    libraries: Path | None = None


def directory() -> Path:
    if chosen := os.environ.get("LATTICE_BENCH_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lattice-bench"


async def workerd() -> Path:
    """The program of the npm package of that name.

    Raises:
        MissingError: saying what to install.
    """
    home = directory() / "workerd"
    if not (found := _workerd_in(home)):
        if (npm := shutil.which("npm")) is None:
            raise MissingError("workerd comes by npm: apt-get install nodejs npm")
        home.mkdir(parents=True, exist_ok=True)
        await _run(npm, "install", "--no-audit", "--no-fund", "--prefix", str(home), "workerd")
        found = _workerd_in(home)
    if not found:
        raise MissingError("npm's workerd has no program for this machine")
    return found[0]


async def chain_python() -> Path:
    """An interpreter of its own that has FastAPI, uvicorn and nats-py.

    Raises:
        MissingError: saying why they can't be had.
    """
    home = directory() / "chain"
    python, complete = home / "bin" / "python", home / ".complete"
    if not complete.exists():
        await _run(sys.executable, "-m", "venv", "--clear", str(home))
        await _run(
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *CHAIN_PACKAGES,
        )
        complete.touch()
    return python


async def wrk() -> Wrk:
    """The system's, or else Debian's package, unpacked.

    Raises:
        MissingError: saying what to install.
    """
    if path := shutil.which("wrk"):
        return Wrk(Path(path))
    home = directory() / "wrk"
    if not (program := home / "usr" / "bin" / "wrk").exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise MissingError("the HTTP rows need wrk; install it")
        home.mkdir(parents=True, exist_ok=True)
        await _run("apt-get", "download", *WRK_PACKAGES, directory=home)
        for package in sorted(home.glob("*.deb")):
            await _run("dpkg-deb", "--extract", str(package), str(home))
    libraries = next(iter(home.glob("usr/lib/*/libluajit*")), None)
    return Wrk(program, libraries.parent if libraries else None)


def _workerd_in(home: Path) -> list[Path]:
    return sorted(home.glob("node_modules/@cloudflare/workerd-*/bin/workerd"))


async def _run(*command: str, directory: Path | None = None) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(INSTALL_S_MAX):
            output, _ = await process.communicate()
    except TimeoutError:
        raise MissingError(f"{command[0]} took more than {INSTALL_S_MAX:g} s") from None
    finally:
        await processes.end(process, grace_s=1.0)
    if process.returncode != 0:
        last = output.decode(errors="replace").strip().splitlines()[-1:]
        raise MissingError(f"{command[0]} failed: {' '.join(last)}")
