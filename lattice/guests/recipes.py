"""How each language's own tools make a module or a component of a project's files.

A recipe is a list of commands, decided by what the project file and its folder hold. Where a
language has a manifest of its own (``package.json``, ``Cargo.toml``), that says more than we do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from lattice import errors
from lattice.guests import tools
from lattice.guests.tools import RustTarget, Tool
from lattice.project import Abi, Language, Project

WORLD = "actor"
"""The WIT world that templates for components have."""

ABIS: Mapping[Language, Abi] = {
    Language.ASSEMBLYSCRIPT: Abi.WAPC,
    Language.C: Abi.WAPC,
    Language.GO: Abi.WAPC,
    Language.JAVASCRIPT: Abi.COMPONENT,
    Language.PYTHON: Abi.COMPONENT,
    Language.RUST: Abi.COMPONENT,
    Language.TYPESCRIPT: Abi.COMPONENT,
    Language.ZIG: Abi.WAPC,
}
"""What the tools of each language make."""

STACK_BYTES = 16 * 1024
"""Stack of guests without a run time: every instance has it, and compilers give up to 16 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a recipe, run in the project's folder."""

    says: str
    """What it does, for people."""
    arguments: tuple[str, ...]
    tool: Tool | None = None
    """What it runs; None when the first argument is the program."""
    companion: str = ""
    """Another program of the tool's, run in its place."""
    environment: Mapping[str, str] = field(default_factory=dict)
    product: Path | None = None
    """Where it leaves what was built, when that is not where the project file wants it."""


def recipe(project: Project, rust: RustTarget = tools.WASIP2) -> tuple[Step, ...]:
    """The commands that build a project; ``rust`` is what a project in Rust is compiled for.

    Raises:
        InvalidRequest: its language can't make what it wants, or there is nothing to build.
    """
    if project.build.command:
        return (Step(says=" ".join(project.build.command), arguments=project.build.command),)
    language = project.actor.language
    if project.actor.abi is not ABIS[language]:
        raise errors.InvalidRequest(
            f"{language} is built to {ABIS[language]}, not {project.actor.abi}:"
            f' write abi = "{ABIS[language]}", or say how with build.command'
        )
    match language:
        case Language.C:
            steps = _c(project)
        case Language.ZIG:
            steps = _zig(project)
        case Language.GO:
            steps = _go(project)
        case Language.PYTHON:
            steps = _python(project)
        case Language.RUST:
            steps = _rust(project, rust)
        case Language.ASSEMBLYSCRIPT | Language.JAVASCRIPT | Language.TYPESCRIPT:
            steps = _npm(project)
        case Language.OTHER:
            raise AssertionError("the project file has a command of its own")
        case _:
            assert_never(language)
    return tuple(steps)


def _c(project: Project) -> Sequence[Step]:
    return [
        Step(
            says="compiling C",
            tool=tools.ZIG,
            arguments=(
                *("cc", "-target", "wasm32-freestanding", "-std=c11", "-Wall", "-Wextra"),
                # zig turns every optimisation for size into -Os, twice as large as clang's -Oz.
                *("-Os", "-Xclang", "-Oz"),
                # Function names for the backtraces of traps, but no debug information.
                *("-g", "-g0"),
                *("-Wl,--no-entry", f"-Wl,-z,stack-size={STACK_BYTES}"),
                *("-I", "sdk", "-o", project.actor.output),
                *_named(project, ".c"),
            ),
        )
    ]


def _zig(project: Project) -> Sequence[Step]:
    return [
        Step(
            says="compiling Zig",
            tool=tools.ZIG,
            arguments=(
                *("build-exe", "src/main.zig", "-target", "wasm32-freestanding"),
                *("-O", "ReleaseSmall", "-fno-entry", "-rdynamic", "--stack", str(STACK_BYTES)),
                f"-femit-bin={project.actor.output}",
            ),
        )
    ]


def _go(project: Project) -> Sequence[Step]:
    return [
        Step(
            says="compiling Go",
            tool=tools.GO,
            arguments=(
                *("build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w"),
                *("-o", project.actor.output, "."),
            ),
            environment={"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local"},
        )
    ]


def _python(project: Project) -> Sequence[Step]:
    packages = project.folder / "requirements.txt"
    steps = []
    if packages.exists():
        # Wheels without native code, which is all that a guest can load.
        steps.append(
            Step(
                says="installing the actor's own packages",
                tool=tools.COMPONENTIZE_PY,
                companion="python",
                arguments=(
                    *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                    *("--upgrade", "--only-binary", ":all:", "--platform", "any"),
                    *("--target", ".lattice/packages", "--requirement", "requirements.txt"),
                ),
            )
        )
    steps.append(
        Step(
            says="making a component of CPython and the actor",
            tool=tools.COMPONENTIZE_PY,
            arguments=(
                *("--quiet", "--wit-path", "wit", "--world", WORLD, "componentize"),
                *("--python-path", "src"),
                *(("--python-path", ".lattice/packages") if packages.exists() else ()),
                *("--output", project.actor.output, "app"),
            ),
        )
    )
    return steps


def _rust(project: Project, target: RustTarget) -> Sequence[Step]:
    crate = project.actor.name.replace("-", "_")
    environment = {}
    if target.linker:
        variable = f"CARGO_TARGET_{target.name.upper().replace('-', '_')}_LINKER"
        environment[variable] = target.linker
    build = Step(
        says="compiling Rust",
        tool=tools.CARGO,
        arguments=(
            *("build", "--release", "--quiet", "--target", target.name),
            # Wherever the user has cargo leave things otherwise.
            *("--target-dir", "target"),
        ),
        environment=environment,
        product=project.folder / "target" / target.name / "release" / f"{crate}.wasm",
    )
    if (project.folder / "Cargo.lock").exists():
        return [build]
    fetch = Step(says="fetching crates", tool=tools.CARGO, arguments=("fetch", "--quiet"))
    return [fetch, build]


def _npm(project: Project) -> Sequence[Step]:
    """The scripts of ``package.json``: they know the language, and people change them there."""
    build = Step(
        says="npm run build",
        tool=tools.NODE,
        companion="npm",
        arguments=("run", "--silent", "build"),
    )
    if _is_installed(project.folder):
        return [build]
    install = Step(
        says="npm install",
        tool=tools.NODE,
        companion="npm",
        arguments=("install", "--no-audit", "--no-fund", "--loglevel", "error"),
    )
    return [install, build]


def _is_installed(folder: Path) -> bool:
    """Whether npm has installed what the manifest and the lock file say since they changed."""
    try:
        installed = (folder / "node_modules" / ".package-lock.json").stat().st_mtime_ns
        manifest = (folder / "package.json").stat().st_mtime_ns
        lock = (folder / "package-lock.json").stat().st_mtime_ns
    except OSError:
        return False
    return installed >= max(manifest, lock)


def _named(project: Project, suffix: str) -> list[str]:
    found = [
        str(path.relative_to(project.folder)) for path in project.sources() if path.suffix == suffix
    ]
    if not found:
        raise errors.InvalidRequest(
            f"there is no *{suffix} among the files of build.sources:"
            f" {', '.join(project.build.sources)}"
        )
    return found
