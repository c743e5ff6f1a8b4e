"""The examples do what they are there to show, deployed as their manifests say on two hosts.

Their READMEs' commands are typed by ``test_pages``; here is what a page can't show.
"""

import asyncio
import itertools
import json
import random
import shutil
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import httpx
import nats
import pytest

from lattice import errors, project
from lattice.guests import building
from lattice.project import Language
from lattice.wire import codec
from tests.support import command_line, toolchains
from tests.support.cluster import lattice_cluster

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
ADDRESS = "127.0.0.1:8080"
"""Where the manifests have the examples answer."""

CALL_TIMEOUT_S = 20.0
RETRY_S = 0.1
COMPILE_S = 300.0
"""How long a host may compile an interpreter of twenty megabytes; a busy machine takes a minute."""


@asynccontextmanager
async def deployed(
    example: str, tmp_path: Path, change: tuple[str, str] = ("", "")
) -> AsyncIterator[tuple[command_line.Lattice, httpx.AsyncClient]]:
    """An example's app on two hosts, on a port of its own, and a client of its address.

    ``change`` is something in its manifest, and what shall be there instead.
    """
    folder = tmp_path / example
    shutil.copytree(EXAMPLES / example, folder)
    address = f"127.0.0.1:{command_line.free_port()}"
    manifest = folder / "app.yaml"
    text = manifest.read_text().replace(ADDRESS, address)
    assert change[0] in text
    manifest.write_text(text.replace(*change) if change[0] else text)

    async with (
        command_line.up(tmp_path / "data", "--hosts", "2") as lattice,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=CALL_TIMEOUT_S) as client,
    ):
        outcome = await lattice.run("app", "deploy", str(manifest))
        assert outcome.status == 0, outcome.errors
        yield lattice, client


async def test_a_url_shortened_by_many_at_once_has_one_code_and_each_hit_is_told(
    tmp_path: Path,
) -> None:
    url = "https://example.com/" + "long/" * 100
    async with deployed("url-shortener", tmp_path) as (lattice, client):
        answers = await asyncio.gather(*(client.post("/", content=url) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {201}
        (path,) = {answer.headers["location"] for answer in answers}

        listener = await nats.connect(lattice.nats_url)
        try:
            events = await listener.subscribe("shortener.hits")
            await listener.flush()
            hits = await asyncio.gather(*(client.get(path) for _ in range(10)))
            told = [await events.next_msg(timeout=CALL_TIMEOUT_S) for _ in range(10)]
        finally:
            await listener.close()
        assert {(hit.status_code, hit.headers["location"]) for hit in hits} == {(302, url)}
        assert sorted(json.loads(event.data)["hits"] for event in told) == list(range(1, 11))

        assert (await client.get(f"{path}/stats")).json() == {"code": path[1:], "hits": 10}


async def test_a_url_that_could_write_headers_of_its_own_is_refused(tmp_path: Path) -> None:
    async with deployed("url-shortener", tmp_path) as (_, client):
        for url in (
            "http://example.com/\r\nset-cookie: a=b",
            "javascript:alert(1)",
            "https://",
            "http://example.com/" + "a" * 2000,
            "",
        ):
            assert (await client.post("/", content=url)).status_code == 400, url
        for path in ("/EsTNxTm", "/EsTNxT", "/EsTNxTm/other", "/a%0d%0ab1234"):
            assert (await client.get(path)).status_code == 404, path
        assert (await client.put("/")).status_code == 405


async def test_who_follows_a_code_gets_there_when_nobody_may_be_told(tmp_path: Path) -> None:
    denied = ("publish: shortener.hits", "publish: something.else")
    async with deployed("url-shortener", tmp_path, denied) as (lattice, client):
        path = (await client.post("/", content="http://example.com/")).headers["location"]
        assert (await client.get(path)).status_code == 302
        assert (await client.get(f"{path}/stats")).json()["hits"] == 1

        written = await lattice.run("logs")
        assert "denied" in written.output


async def test_the_counter_as_a_component_misses_no_request_of_many_at_once(
    tmp_path: Path,
) -> None:
    async with deployed("counter-component", tmp_path) as (_, client):
        answers = await asyncio.gather(*(client.get("/a/b") for _ in range(20)))
        assert sorted(answer.json()["counter"] for answer in answers) == list(range(1, 21))

        assert (await client.head("/a/b")).status_code == 200
        refused = await client.delete("/a/b")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
        assert (await client.get("/a/b")).json() == {"counter": 22}


async def test_values_of_every_shape_cross_between_two_components(tmp_path: Path) -> None:
    async with deployed("pipeline", tmp_path) as (_, client):
        report = await client.post("/", content="Ä b! ä c? C; Ä".encode())
        assert (report.status_code, report.text) == (200, "6 words in 3 sentences\n3 ä\n2 c\n1 b\n")

        silent = await client.post("/", content="?!")
        assert (silent.status_code, silent.text) == (422, "there is no word in it\n")

        long = await client.post("/", content="a " * 200_000)
        assert (long.status_code, long.text) == (413, "more than 262144 bytes\n")

        assert (await client.post("/", content=b"\xff")).status_code == 400
        assert (await client.get("/")).status_code == 405


async def test_a_network_reads_its_weights_once_for_all_calls_of_an_instance(
    tmp_path: Path,
) -> None:
    folder = EXAMPLES / "digits"
    async with deployed("digits", tmp_path) as (_, client):
        picture = (folder / "seven.txt").read_bytes()
        missing = await client.post("/classify", content=picture)
        assert (missing.status_code, missing.text.partition(":")[0]) == (503, "not_found")

        weights = (folder / "digits.weights").read_bytes()
        assert (await client.put("/weights", content=weights[:-4])).status_code == 400
        assert (await client.put("/weights", content=weights)).status_code == 201

        first, second = [(await client.post("/classify", content=picture)).json() for _ in range(2)]
        assert (first["weights"], second["weights"]) == ("read", "kept")
        assert first["digit"] == second["digit"] == 7
        assert abs(sum(first["probabilities"]) - 1) < 0.01

        three = [int(number) for number in (folder / "three.txt").read_text().split()]
        assert (await client.post("/classify", json=three)).json()["digit"] == 3

        for wrong in (b"", b"1 " * 63, b"1 " * 65, b"17 " + b"1 " * 63, b"99999999999 " * 64):
            assert (await client.post("/classify", content=wrong)).status_code == 400, wrong


async def test_each_pixel_of_a_thumbnail_is_the_mean_of_its_area(tmp_path: Path) -> None:
    chance = random.Random(7)
    async with deployed("thumbnailer", tmp_path) as (_, client):
        for width, height, narrow in ((7, 5, 3), (9, 9, 9), (12, 2, 8), (1, 4, 1), (5, 30, 1)):
            pixels = chance.randbytes(width * height * 3)
            picture = b"P6\n# by chance\n%d %d\n255\n" % (width, height) + pixels
            assert (await client.put("/random", content=picture)).status_code == 201
            made = await client.post(f"/random?width={narrow}")
            assert made.status_code == 201, made.text
            low = int(made.text.split("x")[1])

            thumbnail = (await client.get("/random")).content
            assert thumbnail == b"P6 %d %d 255\n" % (narrow, low) + bytes(
                mean(pixels[channel::3], (width, height), (narrow, low), (x, y))
                for y in range(low)
                for x in range(narrow)
                for channel in range(3)
            )


async def test_a_thumbnail_of_a_png_is_a_png_of_what_it_shows(tmp_path: Path) -> None:
    chance = random.Random(7)
    width, height, narrow, low = 40, 30, 8, 6
    async with deployed("thumbnailer", tmp_path) as (_, client):
        for (kind, step), pack in itertools.product(
            ((0, 1), (2, 3), (3, 1), (4, 2), (6, 4)), (stored, fixed, dynamic)
        ):
            # Few values, so that there is something to pack.
            values = bytes(chance.choices(range(0, 256, 51), k=width * height * step))
            palette = chance.randbytes(3 * 256)
            picture = png(width, height, kind, step, values, palette, chance, pack)
            assert (await client.put("/any", content=picture)).status_code == 201
            made = await client.post(f"/any?width={narrow}")
            assert made.text == f"{narrow}x{low}\n"

            answer = await client.get("/any")
            assert answer.headers["content-type"] == "image/png"
            channels = shown(kind, values, palette)
            assert read_png(answer.content) == (
                (narrow, low, 2 if len(channels) == 3 else 0),
                bytes(
                    mean(channel, (width, height), (narrow, low), (x, y))
                    for y in range(low)
                    for x in range(narrow)
                    for channel in channels
                ),
            )


def shown(kind: int, values: bytes, palette: bytes) -> list[bytes]:
    """What a picture shows on white, channel by channel."""

    def on_white(value: int, opacity: int) -> int:
        return (value * opacity + 255 * (255 - opacity) + 127) // 255

    match kind:
        case 0:
            return [values]
        case 2:
            return [values[channel::3] for channel in range(3)]
        case 3:
            return [bytes(palette[3 * value + channel] for value in values) for channel in range(3)]
        case 4:
            return [bytes(map(on_white, values[::2], values[1::2]))]
        case _:
            return [bytes(map(on_white, values[channel::4], values[3::4])) for channel in range(3)]


def png(
    width: int,
    height: int,
    kind: int,
    step: int,
    values: bytes,
    palette: bytes,
    chance: random.Random,
    pack: Callable[[bytes], bytes],
) -> bytes:
    """A picture whose rows are written as differences of every kind."""
    row_bytes, rows, above = width * step, bytearray(), bytes(width * step)
    for y in range(height):
        row = values[y * row_bytes : (y + 1) * row_bytes]
        how = chance.randrange(5)
        rows.append(how)
        for x, value in enumerate(row):
            left = row[x - step] if x >= step else 0
            corner = above[x - step] if x >= step else 0
            rows.append((value - predicted(how, left, above[x], corner)) % 256)
        above = row
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    packed = pack(bytes(rows))
    parts = [(b"IHDR", head), (b"tEXt", b"Comment\0by chance"), (b"PLTE", palette)]
    parts += [(b"IDAT", packed[at : at + 500]) for at in range(0, len(packed), 500)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in [*parts, (b"IEND", b"")])


def stored(data: bytes) -> bytes:
    return zlib.compress(data, 0)


def fixed(data: bytes) -> bytes:
    packer = zlib.compressobj(strategy=zlib.Z_FIXED)
    return packer.compress(data) + packer.flush()


def dynamic(data: bytes) -> bytes:
    return zlib.compress(data, 9)


def predicted(how: int, left: int, above: int, corner: int) -> int:
    nearest = min((left, above, corner), key=lambda value: abs(left + above - corner - value))
    return (0, left, above, (left + above) // 2, nearest)[how]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def read_png(file: bytes) -> tuple[tuple[int, int, int], bytes]:
    """Width, height and kind of a picture, and its values: one whose rows are no differences."""
    assert file.startswith(b"\x89PNG\r\n\x1a\n")
    at, found = 8, {}
    while at < len(file):
        (size,) = struct.unpack(">I", file[at : at + 4])
        name, body = file[at + 4 : at + 8], file[at + 8 : at + 8 + size]
        assert file[at : at + 12 + size] == chunk(name, body)
        found[name] = body
        at += 12 + size
    width, height, depth, kind, *rest = struct.unpack(">IIBBBBB", found[b"IHDR"])
    assert (depth, rest) == (8, [0, 0, 0])
    rows = zlib.decompress(found[b"IDAT"])
    row_bytes = len(rows) // height
    assert set(rows[::row_bytes]) == {0}
    values = b"".join(rows[y * row_bytes + 1 : (y + 1) * row_bytes] for y in range(height))
    return (width, height, kind), values


def mean(pixels: bytes, size: tuple[int, int], small: tuple[int, int], at: tuple[int, int]) -> int:
    """What a thumbnail's pixel should be, worked out in fractions, halves rounded up."""
    (left, right), (top, bottom) = [
        (Fraction(where * large, fewer), Fraction((where + 1) * large, fewer))
        for where, large, fewer in zip(at, size, small, strict=True)
    ]
    total = sum(
        pixels[y * size[0] + x] * within(x, left, right) * within(y, top, bottom)
        for y in range(size[1])
        for x in range(size[0])
    )
    return int(total / ((right - left) * (bottom - top)) + Fraction(1, 2))


def within(pixel: int, start: Fraction, end: Fraction) -> Fraction:
    """How much of a pixel's side lies between two places."""
    length = min(Fraction(pixel + 1), end) - max(Fraction(pixel), start)
    return max(Fraction(0), length)


async def test_a_thumbnailer_refuses_what_is_no_picture_and_goes_on(tmp_path: Path) -> None:
    async with deployed("thumbnailer", tmp_path) as (_, client):
        for wrong in (
            b"",
            b"P6",
            b"P4 8 1\n\0",
            b"P6 0 1 255\n",
            b"P5 2 2 255\n\0\0\0",
            b"P5 2 2 255\n\0\0\0\0\0",
            b"P5 2 2 65535\n" + bytes(8),
            b"P5 4294967297 1 255\n\0",
            b"P6 10000 10000 255\n\0",
            b"\x89PNG\r\n\x1a\n",
            *spoilt(),
        ):
            assert (await client.put("/wrong", content=wrong)).status_code == 415, wrong
        assert (await client.post("/wrong")).status_code == 404

        assert (await client.put("/dot", content=b"P5 1 1 255\n\x07")).status_code == 201
        for query in ("width=0", "width=", "width=2", "width=x", "size=1", "width=1&a"):
            assert (await client.post(f"/dot?{query}")).status_code == 400, query
        assert (await client.post("/dot?width=1")).text == "1x1\n"
        assert (await client.get("/dot")).content == b"P5 1 1 255\n\x07"


def spoilt() -> Iterator[bytes]:
    """Pictures that were cut off, have a byte too much, or say that they are huge or otherwise."""
    chance = random.Random(3)
    good = png(9, 9, 2, 3, chance.randbytes(243), b"", chance, dynamic)
    for end in range(9, len(good), 7):
        yield good[:end]
    for head in (
        struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0),
        struct.pack(">IIBBBBB", 0, 9, 8, 2, 0, 0, 0),
        struct.pack(">IIBBBBB", 9, 9, 16, 2, 0, 0, 0),
        struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 1),
        struct.pack(">IIBBBBB", 9, 9, 8, 7, 0, 0, 0),
        struct.pack(">IIBBBBB", 9, 10, 8, 2, 0, 0, 0),
        struct.pack(">IIBBBBB", 9, 8, 8, 2, 0, 0, 0),
    ):
        yield good[:8] + chunk(b"IHDR", head) + good[33:]
    # Values without colours.
    yield good[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 27, 9, 8, 3, 0, 0, 0)) + good[33:]


async def test_a_thumbnail_that_takes_too_long_is_ended_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    wasm = (EXAMPLES / "thumbnailer" / "thumbnailer.wasm").read_bytes()
    large = b"P5 1900 1900 255\n" + bytes(1900 * 1900)

    def request(method: str, path: str, query: str = "", body: bytes = b"") -> bytes:
        fields = {"method": method, "path": path, "queryString": query, "header": {}, "body": body}
        return codec.pack(fields)

    async with lattice_cluster(tmp_path) as cluster:
        (host,) = await cluster.start_hosts(1, cpu_time_s=0.02)
        await cluster.start_actor("thumbnailer", on=host, wasm=wasm)
        await cluster.start_provider("blobs", "lattice+builtin://blobstore", on=host)
        await cluster.link("thumbnailer", "blobs", "wasi:blobstore")

        async def ask(payload: bytes) -> dict[str, object]:
            answer = await cluster.call("thumbnailer", "HttpServer.HandleRequest", payload)
            decoded = codec.unpack_payload(answer)
            assert isinstance(decoded, dict)
            return decoded

        assert (await ask(request("PUT", "/large", body=large)))["statusCode"] == 201
        with pytest.raises(errors.CpuExceeded):
            await ask(request("POST", "/large", "width=1900"))
        assert (await ask(request("GET", "/large")))["statusCode"] == 404


@pytest.mark.timeout(900)  # A tool may have to be installed first.
@pytest.mark.parametrize("language", ["c", "rust", "python", "javascript"])
async def test_an_actor_in_each_of_four_languages_greets(language: str, tmp_path: Path) -> None:
    await toolchains.require(Language(language))
    folder = tmp_path / "hello"
    made = shutil.ignore_patterns("build", "target", "node_modules", ".lattice")
    shutil.copytree(EXAMPLES / "hello" / language, folder, ignore=made)
    await building.build(project.load(folder), toolchains.TOOLBOX)
    port = command_line.free_port()
    manifest = folder / "app.yaml"
    manifest.write_text(manifest.read_text().replace(ADDRESS, f"127.0.0.1:{port}"))

    async with command_line.up(tmp_path / "data") as lattice:
        stored = await lattice.run("app", "deploy", "--no-wait", str(manifest))
        assert stored.status == 0, stored.errors
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=CALL_TIMEOUT_S
        ) as client:
            async with asyncio.timeout(COMPILE_S):
                plain = await first_answer(client)
            named = await client.get("/ada?x=1")

    assert plain.text == "Hello, world!\n"
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert named.text == "Hello, ada!\n"


async def first_answer(client: httpx.AsyncClient) -> httpx.Response:
    """What ``/`` answers once there is somebody to answer."""
    while True:
        try:
            answer = await client.get("/")
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
        except httpx.TransportError:
            pass
        await asyncio.sleep(RETRY_S)
