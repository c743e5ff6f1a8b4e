"""From bytes to code that can be called: compiled or found in the cache, checked, and linked.

All of it runs in threads beside the loop's, and touches nothing of the loop's.
"""

import platform
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from host.engine import (
    component,
    component_binary,
    ffi,
    footprint,
    gauge,
    interfaces,
    module,
    wapc,
    wasi,
)
from host.engine.cache import Cache, CacheUnusableError
from host.engine.code import Code, NativeCode
from host.engine.component import Component
from host.engine.component_ffi import COMPONENTS
from host.engine.ffi import MODULES
from host.engine.module import Module, NativeModule
from host.engine.settings import EngineSettings
from lattice import errors, limits

if TYPE_CHECKING:
    from host.engine.engine import Engine

log = structlog.get_logger()

CODE_BYTES_MIN = 32 * limits.KIB
"""What a loaded module costs besides its code: tables, and the image of its memory."""


class Compiled(NamedTuple):
    """Native code whose imports are not resolved yet; whoever has it deletes it."""

    pointer: ffi.Address
    artefact_bytes: int
    """Its size where it is kept; 0 if it is kept nowhere."""


class Linked(NamedTuple):
    """What comes of compiling and linking."""

    native: NativeCode
    make: Callable[["Engine"], Code]
    """Makes the code's facts, without it, on the loop's thread."""


class Preparation:
    """What turns bytes into code."""

    def __init__(
        self, settings: EngineSettings, engine: ffi.Address, answered: Mapping[str, Any]
    ) -> None:
        """Host functions of the ABI that are ``answered`` are there instead of ours."""
        self._engine = engine
        self._memory_bytes_max = settings.memory_bytes_max
        self._linker, self._known = _link(engine, answered)
        self._cache = _open_cache(settings)
        self.compiled = 0
        self.cache_hits = 0

    def delete(self) -> None:
        ffi.linker_delete(self._linker)

    def read(self, digest: str, facts: component.Facts | None) -> NativeCode | None:
        """Load and link what is in the cache; runs in the reader's thread."""
        compiler = MODULES if facts is None else COMPONENTS
        compiled = self._from_cache(digest, compiler)
        if compiled is None:
            return None
        try:
            if facts is not None:
                return self._resolve(compiled, facts)
            return _native(self._linker, compiled.pointer)
        except ffi.LibraryError as error:
            # It was linked before: only a damaged artefact comes here, and compiling mends it.
            log.warning("cached artefact does not link", digest=digest, reason=str(error))
            return None
        finally:
            compiler.delete(compiled.pointer)

    def prepare(self, digest: str, command: bool, wasm: bytes) -> Linked:
        """Compile, check and link; runs in the compiler's thread."""
        if module.is_component(wasm):
            if command:
                raise errors.InvalidRequest(
                    "a component can't be run as a program; start it as an actor"
                )
            return self._prepare_component(digest, wasm)
        try:
            compiled = self._compile(digest, module.without_much_debug(wasm), MODULES)
        except ffi.LibraryError as error:
            raise module.refused_by_compiler(str(error), self._memory_bytes_max) from None
        try:
            types = ffi.module_types(compiled.pointer)
            module.check_types(types, self._known, self._memory_bytes_max, command=command)
            native = _native(self._linker, compiled.pointer)
        except ffi.LibraryError as error:
            raise errors.InvalidRequest(f"the module cannot be linked: {error}") from None
        finally:
            MODULES.delete(compiled.pointer)
        size = len(wasm)
        return Linked(
            native,
            lambda engine: Module(engine, digest=digest, size=size, types=types, command=command),
        )

    def _prepare_component(self, digest: str, wasm: bytes) -> Linked:
        size, wasm = len(wasm), module.without_much_debug(wasm)
        binary = component_binary.read(wasm)
        needs = footprint.footprint(binary)
        footprint.check(needs, self._memory_bytes_max)
        try:
            compiled, is_gauged = self._compile_gauged(digest, wasm, gauge.gauged(binary, needs))
        except ffi.LibraryError as error:
            raise component.refused_by_compiler(str(error)) from None
        try:
            facts = component.read_facts(
                self._engine,
                compiled.pointer,
                needs,
                interfaces.ENTRIES,
                is_gauged=is_gauged,
            )
            native = self._resolve(compiled, facts)
        except ffi.LibraryError as error:
            raise errors.InvalidRequest(f"the component cannot be linked: {error}") from None
        finally:
            COMPONENTS.delete(compiled.pointer)
        return Linked(
            native, lambda engine: Component(engine, digest=digest, size=size, facts=facts)
        )

    def _compile_gauged(
        self, digest: str, wasm: bytes, gauged: bytes | None
    ) -> tuple[Compiled, bool]:
        """Compile a component, with the export that tells its memory if it compiles with it.

        Raises:
            LibraryError: it does not compile.
        """
        if gauged is not None:
            try:
                return self._compile(digest, gauged, COMPONENTS), True
            except ffi.LibraryError as error:
                # It is broken by itself, or has what we don't know of: a figure is no reason to
                # refuse it.
                log.info("component compiled as it is", digest=digest, reason=str(error)[:200])
        return self._compile(digest, wasm, COMPONENTS), False

    def _resolve(self, compiled: Compiled, facts: component.Facts) -> component.NativeComponent:
        # The library doesn't say how much memory its code takes; where it isn't kept, its
        # artefact is made only to be measured.
        size = compiled.artefact_bytes or len(COMPONENTS.serialize(compiled.pointer))
        return component.resolve(
            self._engine,
            compiled.pointer,
            facts,
            interfaces.FUNCTIONS,
            size=size + CODE_BYTES_MIN,
        )

    def _compile(self, digest: str, wasm: bytes, compiler: ffi.Compiler) -> Compiled:
        """Compile, or find compiled.

        Raises:
            LibraryError: it does not compile.
        """
        if (compiled := self._from_cache(digest, compiler)) is not None:
            return compiled
        pointer = compiler.compile(self._engine, wasm)
        self.compiled += 1
        if self._cache is None:
            return Compiled(pointer, 0)
        artefact = compiler.serialize(pointer)
        self._cache.put(digest, artefact)
        return Compiled(pointer, len(artefact))

    def _from_cache(self, digest: str, compiler: ffi.Compiler) -> Compiled | None:
        if self._cache is None or (artefact := self._cache.get(digest)) is None:
            return None
        # From the bytes whose digest was checked, not from the file, which may change meanwhile.
        try:
            pointer = compiler.deserialize(self._engine, artefact)
        except ffi.LibraryError as error:
            log.warning("cached artefact does not load", digest=digest, reason=str(error))
            self._cache.remove(digest)
            return None
        self.cache_hits += 1
        return Compiled(pointer, len(artefact))


def _native(linker: int, compiled: int) -> NativeModule:
    """Resolve the imports of a compiled module.

    Raises:
        LibraryError: they can't be.
    """
    size = ffi.code_bytes(compiled) + CODE_BYTES_MIN
    return NativeModule(ffi.instantiate_pre(linker, compiled), size)


def _link(engine: int, answered: Mapping[str, Any]) -> tuple[int, module.Signatures]:
    """Make a linker with every host function, and the table of their signatures.

    Those of the ABI that are ``answered`` are there instead of ours.
    """
    linker = ffi.linker_new(engine)
    known: module.Signatures = {}
    tables = [(name, wapc.FUNCTIONS) for name in wapc.MODULES]
    tables.append((wasi.MODULE, wasi.FUNCTIONS))
    for home, functions in tables:
        for name, (parameters, results, callback) in functions.items():
            ffi.linker_define(
                linker,
                home,
                name,
                parameters,
                results,
                answered.get(name, callback),
                suspends=isinstance(callback, ffi.AsyncCallback),
            )
            known[home, name] = ffi.signature(parameters, results)
    return linker, known


def _open_cache(settings: EngineSettings) -> Cache | None:
    if settings.cache_dir is None:
        return None
    shaping = (
        ffi.VERSION,
        platform.machine(),
        settings.fuel,
        settings.memory_bytes_max,
        settings.guest_stack_bytes,
        # Compiled code carries the lines of its source, and a component's tells its memory.
        "lines",
        (gauge.NAME, gauge.EDITION),
    )
    try:
        return Cache(
            settings.cache_dir, bytes_max=settings.cache_bytes_max, fingerprint=repr(shaping)
        )
    except CacheUnusableError as error:
        log.warning("modules are not cached", reason=str(error))
        return None
