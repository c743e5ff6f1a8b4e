"""What an actor costs in each language: the HTTP template of each, asked for the same page."""

import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from host.engine import (
    CallLimits,
    Code,
    Engine,
    EngineSettings,
    Instances,
    ReusePolicy,
    execution_of,
)
from lattice import errors, project
from lattice.binaries import Abi
from lattice.guests import building, templates, tools
from lattice.guests.building import Built
from lattice.guests.tools import Toolbox
from lattice.project import Kind, Language
from lattice.wire import codec, http
from tests.bench.engine import Nothing
from tests.bench.memory import settled_bytes
from tests.bench.report import Row, median_row, unmeasured

CALLS = 200
CALLS_S = 2.0
"""Longest that the calls of one kind go on, where one takes milliseconds."""

KEPT = 20
"""Instances at a time, to see what each holds."""

LIMITS = CallLimits(memory_bytes=256 * 2**20, cpu_time_s=10.0, response_bytes=2**20)
POLICY = ReusePolicy(uses=1_000_000, age_s=3600.0)
DEADLINE_S = 60.0

GREETING = b"Hello, ada!\n"


async def measure() -> list[Row]:
    toolbox = Toolbox(folder=tools.default_folder(os.environ), environment=dict(os.environ))
    rows = []
    for language in sorted(templates.KINDS):
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows += await _rows(language, toolbox, Path(folder))
            except (errors.NotFound, errors.Unavailable) as error:
                reason = error.text.partition(";")[0]
                rows.append(
                    unmeasured(reason, id=f"guest_{language}_size", unit="KiB", better="lower")
                )
    return rows


async def _rows(language: Language, toolbox: Toolbox, folder: Path) -> list[Row]:
    source = folder / "source"
    templates.write(templates.files(Kind.HTTP, language, "bench"), source)
    built = await building.build(project.load(source), toolbox)
    content = built.path.read_bytes()
    settings = EngineSettings(cache_dir=folder / "cache", memory_bytes_max=LIMITS.memory_bytes)

    engine = Engine(settings)
    try:
        compile_ms = await _elapsed_ms(lambda: engine.load(content))
    finally:
        engine.close()
    engine = Engine(settings)
    try:
        load_ms = await _elapsed_ms(lambda: engine.load(content))
        code = await engine.load(content)
        request = _request(built)
        fresh_us = await _calls_us(code, request, None)
        kept = engine.instances(POLICY)
        await _call(code, request, kept)
        kept_us = await _calls_us(code, request, kept)
        kept.close()
        held_kib = await _held_kib(engine, code, request)
    finally:
        engine.close()

    def row(what: str, values: list[float], unit: str, against: str) -> Row:
        return median_row(
            values, id=f"guest_{language}_{what}", unit=unit, better="lower", against=against
        )

    return [
        row("size", [built.size_bytes / 1024], "KiB", "of the module or component"),
        row("compile", [compile_ms], "ms", "at the first start on a machine"),
        row("load", [load_ms], "ms", "compiled before, as after a restart or an eviction"),
        row("fresh", fresh_us, "us", "a request, on a fresh instance"),
        row("kept", kept_us, "us", "a request, on an instance that is kept"),
        row("memory", [held_kib], "KiB", "resident memory of an instance after a request"),
    ]


def _request(built: Built) -> tuple[str, bytes]:
    """Operation and payload of ``GET /ada``."""
    if built.binary.abi is Abi.COMPONENT:
        return http.OPERATION, http.pack_request(http.Request(method="GET", path="/ada"))
    fields = {"method": "GET", "path": "/ada", "queryString": "", "header": {}, "body": b""}
    return "HttpServer.HandleRequest", codec.pack(fields)


async def _call(code: Code, request: tuple[str, bytes], instances: Instances | None) -> None:
    operation, payload = request
    execution = execution_of(code)(
        code,
        Nothing(),
        operation=operation,
        payload=payload,
        limits=LIMITS,
        deadline=time.monotonic() + DEADLINE_S,
        instances=instances,
    )
    answer = codec.unpack(execution.result() if execution.start() else await execution.finish())
    assert answer["body"] == GREETING, answer


async def _calls_us(
    code: Code, request: tuple[str, bytes], instances: Instances | None
) -> list[float]:
    """The first ones are not counted: they bring code and memory into caches."""
    began, times_us = time.perf_counter(), []
    for number in range(CALLS):
        started = time.perf_counter()
        await _call(code, request, instances)
        times_us.append((time.perf_counter() - started) * 1e6)
        if number >= 10 and time.perf_counter() - began > CALLS_S:
            break
    return times_us[len(times_us) // 10 :]


async def _held_kib(engine: Engine, code: Code, request: tuple[str, bytes]) -> float:
    before = settled_bytes()
    kept = [engine.instances(POLICY) for _ in range(KEPT)]
    for instances in kept:
        await _call(code, request, instances)
    held = (settled_bytes() - before) / 1024 / KEPT
    for instances in kept:
        instances.close()
    return held


async def _elapsed_ms(step: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await step()
    return (time.perf_counter() - began) * 1000
