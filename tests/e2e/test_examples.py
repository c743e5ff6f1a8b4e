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
