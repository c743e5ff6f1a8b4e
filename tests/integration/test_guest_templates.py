"""What ``lattice new`` writes and ``lattice build`` makes of it does its work on a real host."""

from pathlib import Path

import httpx
import pytest

from lattice import project
from lattice.guests import building, templates
from lattice.guests.building import Built
from lattice.project import Kind, Language
from lattice.wire import codec
from lattice.wire.invocation import Invocation, Reply
from tests.support import command_line, toolchains
from tests.support.cluster import Cluster, LocalHost
from tests.support.eventually import eventually

COMPILE_S = 300.0
"""How long a host may compile an interpreter of twenty megabytes; a busy machine takes a minute."""

LANGUAGES = sorted(templates.KINDS)
EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples" / "hello"

EVERY = pytest.mark.parametrize("language", LANGUAGES)
BUT_THE_EXAMPLES = pytest.mark.parametrize(
    "language", [language for language in LANGUAGES if not (EXAMPLES / language).is_dir()]
)
"""The examples called hello are their languages' templates for ``http``, file by file; what is said
here of those of the others, ``e2e/test_examples.py`` says of them."""

# A tool may have to be installed first, and an interpreter is compiled for a while.
pytestmark = pytest.mark.timeout(900)


class Subscriber:
    """In place of the messaging provider: remembers what was published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str, object]] = []

    def accept(self, invocation: Invocation) -> Reply:
        arguments = codec.unpack(invocation.payload)
        self.published.append((invocation.interface, invocation.operation, arguments))
        # Of a result without a value: the case ``ok``, and nothing in it.
        return Reply(codec.pack({"ok": None}))


async def started(
    cluster: Cluster, kind: Kind, language: Language, folder: Path
) -> tuple[Built, LocalHost]:
    """Make a project of a template, build it, and start it as ``hello-there``."""
    await toolchains.require(language)
    templates.write(templates.files(kind, language, "hello-there"), folder)
    built = await building.build(project.load(folder), toolchains.TOOLBOX)
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor(
        "hello-there", on=host, wasm=built.path.read_bytes(), within_s=COMPILE_S
    )
    return built, host


@BUT_THE_EXAMPLES
async def test_an_http_actor_greets_over_http(
    language: Language, cluster: Cluster, tmp_path: Path
) -> None:
    built, host = await started(cluster, Kind.HTTP, language, tmp_path)
    port = command_line.free_port()
    address = f"127.0.0.1:{port}"
    await cluster.start_provider("http", "lattice+builtin://http-server", on=host)
    await cluster.control.put_config("hello-http", {"address": address})
    interface = "wasmcloud:httpserver" if built.binary.abi.value == "waPC" else "wasi:http"
    await cluster.link("http", "hello-there", interface, source_config=["hello-http"])

    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
        await eventually(lambda: not command_line.is_free(port))
        plain = await client.get("/")
        named = await client.get("/ada?x=1")

    assert plain.text == "Hello, world!\n"
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert named.text == "Hello, ada!\n"


@EVERY
async def test_a_messaging_actor_answers_where_the_sender_waits(
    language: Language, cluster: Cluster, tmp_path: Path
) -> None:
    built, _ = await started(cluster, Kind.MESSAGING, language, tmp_path)
    subscriber = Subscriber()
    await cluster.serve("bus", subscriber)
    await cluster.link("hello-there", "bus", "wasmcloud:messaging")
    is_component = built.binary.abi.value == "component"
    reply_field = "reply-to" if is_component else "replyTo"
    operation = "handler.handle-message" if is_component else "MessageSubscriber.HandleMessage"

    for reply_to in (None, "inbox.7"):
        message = {"subject": "greetings", "body": b"ada", reply_field: reply_to}
        payload = codec.pack([message] if is_component else message)
        await cluster.call("hello-there", operation, payload, interface="wasmcloud:messaging")

    ((_, _, arguments),) = subscriber.published
    (answer,) = arguments if isinstance(arguments, list) else (arguments,)
    assert answer == {"subject": "inbox.7", reply_field: None, "body": b"Hello, ada!"}


@EVERY
async def test_an_actor_with_an_interface_of_its_own_is_called_by_its_wit_types(
    language: Language, cluster: Cluster, tmp_path: Path
) -> None:
    await started(cluster, Kind.CUSTOM, language, tmp_path)

    answer = await cluster.call(
        "hello-there", "greeter.greet", codec.pack(["ada"]), interface="example:greeter"
    )

    assert codec.unpack(answer) == "Hello, ada!"
