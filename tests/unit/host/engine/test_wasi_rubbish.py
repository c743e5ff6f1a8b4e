"""Every function of WASI with arguments that make no sense: an error number, and nothing else."""

import random
import struct
from pathlib import Path

from host.engine import Directory, Engine, Execution, World, ffi, preview1, wasi
from lattice import errors
from tests.support.host_calls import Host, now_s, run
from tests.support.wat import assemble

NAMES = sorted(set(wasi.FUNCTIONS) - {"proc_exit"})

ARGUMENTS = 2048
"""Where the guest has the arguments: eight bytes each."""

CALLS = 3_000

TEXTS = (b"file", b"sub/x", b"../outside", b"/etc/passwd", b".", b"..", b"\xff", b"a\0b", b"")


def guest() -> bytes:
    """A module that calls the function whose number is the operation's length."""
    imports, calls = [], []
    for number, name in enumerate(NAMES):
        parameters, _, _ = wasi.FUNCTIONS[name]
        imports.append(
            f'(import "{wasi.MODULE}" "{name}" (func ${name}'
            f" (param {' '.join(parameters)}) (result i32)))"
        )
        loads = " ".join(
            f"({kind}.load (i32.const {ARGUMENTS + 8 * index}))"
            for index, kind in enumerate(parameters)
        )
        calls.append(
            f"(if (i32.eq (local.get $which) (i32.const {number + 1}))"
            f" (then (i32.store8 (i32.const 0) (call ${name} {loads}))))"
        )
    return assemble(
        f"""(module
          (import "wapc" "__guest_request" (func $request (param i32 i32)))
          (import "wapc" "__guest_response" (func $respond (param i32 i32)))
          {" ".join(imports)}
          (memory (export "memory") 1)
          (func (export "__guest_call") (param $which i32) (param $size i32) (result i32)
            (call $request (i32.const 1024) (i32.const {ARGUMENTS}))
            {" ".join(calls)}
            (call $respond (i32.const 0) (i32.const 1))
            (i32.const 1)))"""
    )


def arguments(random_: random.Random, kinds: tuple[str, ...]) -> bytes:
    """Arguments of a call, and behind them memory for them to point at."""
    places = (0, 8, ARGUMENTS + 256, ARGUMENTS + 300, 65_530, 65_536, 0x80000000, 0xFFFFFFFF)
    numbers = (*range(8), 16, 64, 1 << 20, (1 << 32) - 1)
    huge = (*numbers, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
    text = random_.choice(TEXTS)
    sensible = (3, 4, ARGUMENTS + 256, ARGUMENTS + 300, len(text), 1)
    values = []
    for kind in kinds:
        if kind == ffi.I64:
            values.append(random_.choice(huge))
        else:
            values.append(random_.choice(random_.choice((places, numbers, sensible, sensible))))
    vectors = struct.pack("<4I", ARGUMENTS + 300, len(text), random_.choice(places), 8)
    memory = struct.pack(f"<{len(values)}Q", *values).ljust(256, b"\0") + vectors
    return memory.ljust(300, b"\0") + text


def check_outside(directory: Path) -> None:
    assert sorted(each.name for each in directory.iterdir()) == ["outside", "root"]
    assert (directory / "outside").read_text() == "outside"


async def test_rubbish_gets_an_error_number_and_never_leaves_its_directory(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_text("outside")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_text("file")
    module = await engine.load(guest())
    world = World(
        directories=(
            Directory(guest_path="/", host_path=root, writable=True),
            Directory(guest_path="/fixed", host_path=root / "sub"),
        )
    )
    random_ = random.Random(1)
    answers = set()
    for _ in range(CALLS):
        number = random_.randrange(len(NAMES))
        parameters, _, _ = wasi.FUNCTIONS[NAMES[number]]
        call = Execution(
            module,
            Host(),
            operation="x" * (number + 1),
            payload=arguments(random_, parameters),
            world=world,
            deadline=now_s() + 0.5,
        )
        try:
            (answer,) = await run(call)
        except errors.DeadlineExceeded:
            assert NAMES[number] == "poll_oneoff"
        else:
            answers.add(answer)
    assert max(answers) < len(preview1.ERRNOS)
    assert {preview1.SUCCESS, preview1.BADF, preview1.FAULT, preview1.INVAL} <= answers
    assert preview1.IO not in answers, "an operation failed in a way that nobody thought of"
    check_outside(tmp_path)
