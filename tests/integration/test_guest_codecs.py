"""MessagePack as the templates' own code reads and writes it, one contract for every language."""

import random
import shutil
from pathlib import Path

import pytest

from lattice import errors, project
from lattice.guests import building, templates
from lattice.project import Kind, Language
from lattice.wire import codec
from tests.support import toolchains
from tests.support.cluster import Cluster

SOURCES = Path(__file__).parents[1] / "guests" / "codec"

PLACES = {
    Language.ASSEMBLYSCRIPT: ("index.ts", "src/index.ts"),
    Language.C: ("codec.c", "src/codec.c"),
    Language.GO: ("main.go", "main.go"),
    Language.ZIG: ("main.zig", "src/main.zig"),
}

INTEGERS = [
    edge + step
    for bits in (0, 5, 7, 8, 15, 16, 31, 32, 63)
    for edge in (2**bits, -(2**bits))
    for step in (-1, 0, 1)
    if -(2**63) <= edge + step < 2**63
]

LENGTHS = (0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536)

ANYTHING: list[object] = [
    None,
    1.5,
    "x" * 70_000,
    b"y" * 300,
    [[[[[]]]]],
    [{"a": [1, {"b": b"c"}]}] * 20,
    {str(i): -i for i in range(70_000)},
    2**64 - 1,
]

REFUSED = [
    (b"", "truncated"),
    (b"\x91", "truncated"),
    (b"\x81......", "want an array at byte 0"),
    (b"\x96\xa1x......", "want an integer at byte 1"),
    (b"\x96\x01\x02......", "want a boolean at byte 2"),
    (b"\x96\x01\xc2\x05......", "want text at byte 3"),
    (b"\x96\x01\xc2\xa0\x05......", "want binary data at byte 4"),
    (b"\x96\x01\xc2\xa0\xc4\x00\xc1......", "want a value at byte 6"),
    (b"\x96\x01\xc2\xa0\xc4\x00\xc0\x05......", "want a map at byte 7"),
    (b"\x96\x01\xc2\xa0\xc4\x00\xc0\x80\x00", "trailing data at byte 8"),
    # Counts and lengths that no payload of this size can hold.
    (b"\x96\x01\xc2\xdb\xff\xff\xff\xff", "truncated"),
    (b"\x96\x01\xc2\xa0\xc6\xff\xff\xff\xff", "truncated"),
    (b"\x96\x01\xc2\xa0\xc4\x00\xdd\xff\xff\xff\xff", "truncated"),
    (b"\x96\x01\xc2\xa0\xc4\x00\xc0\xdf\x7f\xff\xff\xff", "truncated"),
    (b"\x96\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "malformed payload: "),
]


@pytest.mark.timeout(600)  # A tool may have to be installed first.
@pytest.mark.parametrize("language", PLACES)
async def test_values_of_every_size_come_back_and_rubbish_is_refused(
    language: Language, cluster: Cluster, tmp_path: Path
) -> None:
    await toolchains.require(language)
    templates.write(templates.files(Kind.CUSTOM, language, "codec"), tmp_path)
    source, place = PLACES[language]
    shutil.copy(SOURCES / source, tmp_path / place)
    built = await building.build(project.load(tmp_path), toolchains.TOOLBOX)
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("codec", on=host, wasm=built.path.read_bytes(), within_s=120)

    async def echoed(values: list[object], *, prefix: bytes = b"") -> object:
        return codec.unpack(await cluster.call("codec", payload=prefix + codec.pack(values)))

    rng = random.Random(7)
    for number in INTEGERS:
        assert await echoed([number, True, "", b"", None, {}]) == [number, True, "", b"", {}]
    for length in LENGTHS:
        text = "".join(rng.choices("abc", k=length))
        names = {str(index): None for index in range(length)}
        wanted = [0, False, text, text.encode(), names]
        assert await echoed([*wanted[:4], None, names]) == wanted
    for value in ANYTHING:
        assert await echoed([0, False, "ä€😀", b"\xff", value, {}]) == [
            0,
            False,
            "ä€😀",
            b"\xff",
            {},
        ]
    assert await echoed([1, True, "", b"", None, {}], prefix=b"\xc1") == [1, True, "", b"", {}]

    for payload, said in REFUSED:
        with pytest.raises(errors.ActorError, match=said):
            await cluster.call("codec", payload=payload)
    # Whatever a payload is, the actor says something about it and does not trap.
    for _ in range(200):
        rubbish = rng.randbytes(rng.randrange(40))
        with pytest.raises(errors.ActorError):
            await cluster.call("codec", payload=b"\x96\x01\xc2\xa0\xc4\x00" + rubbish + b"\xc1\xc1")
