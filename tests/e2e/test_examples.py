"""The examples do what they are there to show, deployed as their manifests say on two hosts.

Their READMEs' commands are typed by ``test_pages``; here is what a page can't show.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import nats

from tests.support import command_line

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
ADDRESS = "127.0.0.1:8080"
"""Where the manifests have the examples answer."""

CALL_TIMEOUT_S = 20.0


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
