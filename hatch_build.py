"""Builds the native part of the engine along with the distribution, where there is a C compiler.

Without one the engine works all the same, only slower; ``LATTICE_REQUIRE_NATIVE=1`` makes that an
error, for those who build wheels.
"""

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("host/engine/native.c")
LIBRARY = Path("host/engine/libnative.so")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden")


class NativeBuild(BuildHookInterface[Any]):
    """Compiles ``native.c`` to a plain shared library: it knows nothing of Python's ABI."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        root = Path(self.root)
        library = root / LIBRARY
        library.unlink(missing_ok=True)
        if (compiler := _compiler()) is None:
            return self._without("there is no C compiler")
        made = subprocess.run(  # noqa: S603 - the builder's own compiler
            [*compiler, *FLAGS, "-o", str(library), str(root / SOURCE)],
            check=False,
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            return self._without(made.stderr)
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["artifacts"].append(f"/{LIBRARY}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        return None

    def _without(self, reason: str) -> None:
        if os.environ.get("LATTICE_REQUIRE_NATIVE"):
            raise RuntimeError(f"the native part of the engine could not be built: {reason}")
        self.app.display_warning(f"the engine will do without its native part: {reason}")


def _compiler() -> list[str] | None:
    for command in (os.environ.get("CC"), "cc", "gcc", "clang"):
        words = shlex.split(command or "")
        if words and shutil.which(words[0]) is not None:
            return words
    return None
