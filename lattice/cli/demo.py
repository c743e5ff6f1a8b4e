"""``lattice demo``: what the README teaches, done in front of the reader.

Two host processes, an actor on one and its providers on the other, linked while they run. Each line
that begins with ``$`` is a command that is then run as it stands there, by this same program; its
output follows. Each step's outcome is checked.
"""

import asyncio
import json
import os
import shlex
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lattice import errors, names
from lattice.aio import processes
from lattice.cli import local, output
from lattice.cli.local import LOOPBACK, LocalHost, LocalLattice, LocalSettings
from lattice.cli.options import Options, command
from lattice.cli.output import Failed, Form, Result

HTTP_PORT = 8080

MANIFEST_PORT = 8081
"""Where the counter's manifest wants its web server."""

SHARED_LATTICE = "demo"
"""Name of the lattice where NATS runs already: ``default`` is somebody's real one."""

COMMAND_TIMEOUT_S = 60.0
"""For one command; the slowest, starting the actor, gives up by itself before."""

SETTLE_ATTEMPTS = 50
"""How often to look for a change at the other end of the lattice; it takes milliseconds."""

SETTLE_PAUSE_S = 0.1

LOG_LINES = 20
"""Lines of each host's log that a failure shows."""

STATUS_OPTION = ("-w", r"%{http_code}\n")
"""Has ``curl`` print the HTTP status after the body, whose last line ends with it or before it."""

APP = "hello"
"""Name of the app in the counter's manifest."""

ACTOR_HOST = "alpha"
PROVIDER_HOST = "beta"

_HERE = Path(__file__).resolve()


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "demo", panel=panel, example="lattice demo --once")(demo)


async def demo(
    options: Options,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="End after the last step instead of staying up.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="PORT",
            help="Port of the nats-server.",
            show_default="any free one",
        ),
    ] = None,
    http_port: Annotated[
        int,
        typer.Option(
            min=1, max=65535, metavar="PORT", help="Port of the web server; if taken, another one."
        ),
    ] = HTTP_PORT,
) -> Result | None:
    """Show a lattice at work: two hosts, an actor, two providers, links changed while they run.

    Every command is shown before it is run. Nothing of it stays; it takes a free port for NATS, and
    another one for HTTP when its own is taken.
    """
    servers = options.servers if options.nats else ()
    with (
        tempfile.TemporaryDirectory(prefix="lattice-demo-") as directory,
        local.interruption() as end,
    ):
        settings = LocalSettings(
            host_names=(ACTOR_HOST, PROVIDER_HOST),
            lattice=options.lattice_name if options.lattice else default_lattice(servers),
            data_dir=Path(directory),
            servers=servers,
            credentials=options.credentials,
            port=port or -1,
            log_dir=Path(directory),
        )
        stage = Stage(Console(stderr=options.form is Form.JSON, highlight=False, soft_wrap=True))
        story = Story(
            stage,
            module=find_example("counter.wasm"),
            http_port=choose_port(http_port, stage),
            manifest=find_example("app.yaml"),
            scratch=Path(directory),
        )
        hosts: list[LocalHost] = []
        with logs_on_failure(hosts):
            async with AsyncExitStack() as stack:
                with step_named(1, story.steps[0]):
                    lattice = await stack.enter_async_context(local.running(settings))
                hosts += lattice.hosts
                await story.tell(lattice, environment(lattice, options.credentials))
                if not once:
                    story.say_what_next(lattice)
                    await end.wait(lattice)
            check_ends(hosts)
    if not once:
        return None
    stage.say(f"all {len(story.steps)} steps ok, and everything that was started has ended")
    return Result(fields={"steps": [step.title for step in story.steps]}, text=[])


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the story."""

    title: str
    act: Callable[[LocalLattice], Awaitable[None]]
    """Does it and checks what came of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the web server said."""

    status: int | None
    """Its HTTP status, where that was asked for."""
    body: str

    @property
    def counter(self) -> int | None:
        """The count in it, if it has one."""
        try:
            value = json.loads(self.body)["counter"]
        except (ValueError, KeyError, TypeError):
            return None
        return value if isinstance(value, int) else None


class Stage:
    """Where commands are shown and run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.environment: dict[str, str] = {}

    def say(self, text: str, *, style: str = "") -> None:
        self._console.print(Text(output.visible(text), style=style))

    def echo(self, *words: str) -> None:
        self.say(f"$ {shlex.join(words)}", style="bold")

    async def lattice(self, *arguments: str) -> str:
        """Show and run a ``lattice`` command.

        Raises:
            Failed: it did.
        """
        self.echo("lattice", *arguments)
        status, text = await self._run(*local.module_command("lattice.cli", *arguments))
        self._show(text)
        if status != 0:
            raise Failed(f"lattice {arguments[0]} {processes.ending(status)}")
        return text

    async def curl(self, address: str, *, with_status: bool = False) -> Answer:
        """Show and run a ``curl``; where there is none, do what it would."""
        words = ("curl", "-s", *(STATUS_OPTION if with_status else ()), address)
        self.echo(*words)
        if shutil.which("curl") is not None:
            _, text = await self._run(*words)
        else:
            text = await asyncio.to_thread(_get, f"http://{address}", with_status=with_status)
        self._show(text)
        return parse_curl(text) if with_status else Answer(None, text)

    def _show(self, text: str) -> None:
        if text.strip():
            self.say(text.rstrip("\n"))

    async def _run(self, *words: str) -> tuple[int, str]:
        process = await processes.spawn(
            *words, output=asyncio.subprocess.PIPE, env=self.environment
        )
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                text, _ = await process.communicate()
        except TimeoutError:
            raise Failed(f"{words[0]} took more than {COMMAND_TIMEOUT_S:.0f} s") from None
        finally:
            # Only when it was interrupted is there anything left to end.
            await processes.end(process, grace_s=1.0)
        return await process.wait(), text.decode(errors="replace")


class Story:
    """The steps, in order; each builds on those before it."""

    def __init__(
        self, stage: Stage, *, module: str, http_port: int, manifest: str, scratch: Path
    ) -> None:
        self._stage = stage
        self._module = module
        self._http_port = http_port
        self._manifest = manifest
        self._scratch = scratch
        self._url = f"localhost:{http_port}/"
        self._count = 0
        self.steps = (
            Step("two hosts are up", self._hosts),
            Step("start the counter actor on alpha", self._actor),
            Step("start its providers on beta", self._providers),
            Step("link them", self._links),
            Step("it counts", self._counts),
            Step("take the link to the store away while it runs", self._unlink),
            Step("put it back", self._relink),
            Step("say in one manifest what should run, and have the lattice see to it", self._app),
            Step("take that back", self._undeploy),
        )

    async def tell(self, lattice: LocalLattice, environment: dict[str, str]) -> None:
        """Do every step.

        Raises:
            LatticeError: one did not come out as it must; the text names it.
        """
        self._stage.environment = environment
        for variable, value in variables(lattice).items():
            self._stage.say(f"$ export {variable}={shlex.quote(value)}", style="bold")
        for number, step in enumerate(self.steps, start=1):
            self._stage.say(f"\nstep {number}: {step.title}", style="bold cyan")
            with step_named(number, step):
                await step.act(lattice)
            self._stage.say(f"step {number} ok", style="green")

    def say_what_next(self, lattice: LocalLattice) -> None:
        module = shlex.quote(self._module)
        lines = [
            "\nIt stays up until Ctrl-C. Try, in another terminal:",
            *(
                f"  export {name}={shlex.quote(value)}"
                for name, value in variables(lattice).items()
            ),
            f"  curl {self._url}my/own/counter",
            "  lattice get inventory",
            f"  lattice scale component {ACTOR_HOST} {module} counter --max 100",
            f"  lattice start component {module} counter --host-id {PROVIDER_HOST}",
            f"  lattice app deploy {shlex.quote(self._manifest)}",
            f"  lattice stop host {ACTOR_HOST}",
        ]
        for line in lines:
            self._stage.say(line)

    async def _hosts(self, lattice: LocalLattice) -> None:
        for host in lattice.hosts:
            # Started before the story began, as this would; nothing can be shown without them.
            self._stage.say(f"$ lattice host --name {host.name} &", style="bold")
        text = await self._stage.lattice("get", "hosts")
        _expect(all(host.id in text for host in lattice.hosts), "a host is missing")

    async def _actor(self, _lattice: LocalLattice) -> None:
        await self._stage.lattice(
            "start", "component", self._module, "counter",
            "--host-id", ACTOR_HOST, "--max-instances", "10",
        )  # fmt: skip

    async def _providers(self, _lattice: LocalLattice) -> None:
        for reference, provider_id in (("http-server", "http"), ("keyvalue", "kv")):
            await self._stage.lattice(
                "start", "provider", reference, provider_id, "--host-id", PROVIDER_HOST
            )

    async def _links(self, _lattice: LocalLattice) -> None:
        address = f"address={LOOPBACK}:{self._http_port}"
        await self._stage.lattice("config", "put", "counter-http", address)
        await self._stage.lattice(
            "link", "put", "http", "counter", "wasmcloud", "httpserver",
            "--source-config", "counter-http",
        )  # fmt: skip
        await self._put_store_link()
        text = await self._stage.lattice("get", "links")
        _expect("httpserver" in text and "keyvalue" in text, "a link is missing")
        await _wait_listening(self._http_port)

    async def _counts(self, lattice: LocalLattice) -> None:
        for _ in range(3):
            answer = await self._stage.curl(self._url)
            if self._count == 0 and answer.counter is not None:
                # A store that was used before goes on from where it was.
                fresh = lattice.server is not None
                self._count = 0 if fresh else answer.counter - 1
            self._expect_next(answer)

    async def _unlink(self, _lattice: LocalLattice) -> None:
        await self._stage.lattice("link", "del", "counter", "wasmcloud", "keyvalue")
        answer = await self._curl_until(lambda answer: answer.counter is None, with_status=True)
        _expect(
            answer.status == 503 and errors.NoLink.code in answer.body,
            f"want status 503 and {errors.NoLink.code}, got {answer.status} {answer.body.strip()}",
        )

    async def _relink(self, _lattice: LocalLattice) -> None:
        await self._put_store_link()
        self._expect_next(await self._curl_until(lambda answer: answer.counter is not None))

    async def _app(self, _lattice: LocalLattice) -> None:
        if not local.is_port_free(port := MANIFEST_PORT):
            port = choose_port(MANIFEST_PORT, self._stage)
            self._manifest = copy_manifest(self._manifest, self._module, self._scratch, port)
        await self._stage.lattice("app", "plan", self._manifest)
        await self._stage.lattice("app", "deploy", self._manifest)
        await _wait_listening(port)
        first, second = [await self._stage.curl(f"localhost:{port}/") for _ in range(2)]
        _expect(
            first.counter is not None and second.counter == first.counter + 1,
            f"want two counts in a row, got {first.body.strip()} and {second.body.strip()}",
        )
        text = await self._stage.lattice("app", "status", APP)
        _expect("Deployed" in text, "the app is not deployed")

    async def _undeploy(self, _lattice: LocalLattice) -> None:
        await self._stage.lattice("app", "undeploy", APP)
        text = await self._stage.lattice("get", "inventory")
        _expect(f"{APP}-" not in text, "something of the app still runs")

    async def _curl_until(
        self, settled: Callable[[Answer], bool], *, with_status: bool = False
    ) -> Answer:
        """Ask until a change of links shows, within milliseconds of the command as a rule."""
        answer = await self._stage.curl(self._url, with_status=with_status)
        for _ in range(SETTLE_ATTEMPTS - 1):
            if settled(answer):
                break
            if answer.counter is not None:
                self._expect_next(answer)
            await asyncio.sleep(SETTLE_PAUSE_S)
            answer = await self._stage.curl(self._url, with_status=with_status)
        return answer

    async def _put_store_link(self) -> None:
        await self._stage.lattice("link", "put", "counter", "kv", "wasmcloud", "keyvalue")

    def _expect_next(self, answer: Answer) -> None:
        _expect(
            answer.counter == self._count + 1,
            f"want the count {self._count + 1}, got {answer.body.strip() or 'no answer'}",
        )
        self._count += 1


def default_lattice(servers: tuple[str, ...]) -> str:
    return SHARED_LATTICE if servers else names.DEFAULT_LATTICE


def variables(lattice: LocalLattice) -> dict[str, str]:
    """What has to be in the environment for a command to find this lattice."""
    found = {"LATTICE_NATS_URL": lattice.nats_url}
    if lattice.lattice != names.DEFAULT_LATTICE:
        found["LATTICE_LATTICE"] = lattice.lattice
    return found


def environment(lattice: LocalLattice, credentials: str | None) -> dict[str, str]:
    """The environment of the commands that are run."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("LATTICE_")
    }
    found = local.module_environment(inherited) | {
        "LATTICE_NATS_URL": ",".join(lattice.servers),
        "LATTICE_LATTICE": lattice.lattice,
        # A proxy would be asked for localhost too, and would ask itself.
        "no_proxy": "localhost",
    }
    if credentials is not None:
        found["LATTICE_NATS_CREDENTIALS"] = credentials
    return found


def find_example(name: str) -> str:
    """Path of a file of the counter's, as one would type it: in the package, or in a checkout.

    Raises:
        NotFound: this installation has none.
    """
    places = (
        _HERE.parent / "examples" / name,
        _HERE.parents[2] / "deploy" / "examples" / "counter" / name,
    )
    for place in places:
        if place.is_file():
            here = Path.cwd()
            return str(place.relative_to(here) if place.is_relative_to(here) else place)
    raise errors.NotFound("the counter example is not part of this installation")


def copy_manifest(manifest: str, module: str, directory: Path, port: int) -> str:
    """A manifest like the counter's, whose web server has another port."""
    shutil.copy(module, directory / "counter.wasm")
    copy = directory / "app.yaml"
    text = Path(manifest).read_text()
    copy.write_text(text.replace(f"{LOOPBACK}:{MANIFEST_PORT}", f"{LOOPBACK}:{port}"))
    return str(copy)


def choose_port(wanted: int, stage: Stage) -> int:
    """A port for the web server: the one that is wanted if it is free."""
    if local.is_port_free(wanted):
        return wanted
    chosen = local.free_port()
    stage.say(f"port {wanted} is taken, so the web server gets {chosen}")
    return chosen


def parse_curl(text: str) -> Answer:
    """Take apart what ``curl`` printed: the body, and the three digits of the status."""
    text = text.removesuffix("\n")
    body, status = text[:-3], text[-3:]
    return Answer(int(status) if status.isdigit() else None, body)


def check_ends(hosts: list[LocalHost]) -> None:
    """Make sure that the hosts ended in order.

    Raises:
        Failed: one did not, or had to be killed.
    """
    for host in hosts:
        if (status := host.process.returncode) != 0:
            how = "still runs" if status is None else processes.ending(status)
            raise Failed(f"asked to end, host {host.name} {how}")


@contextmanager
def step_named(number: int, step: Step) -> Iterator[None]:
    """Have what goes wrong say in which step it did."""
    try:
        yield
    except errors.LatticeError as error:
        raise type(error).from_parts(
            f"step {number} ({step.title}) failed: {error.text}", at=error.at, detail=error.detail
        ) from error


@contextmanager
def logs_on_failure(hosts: list[LocalHost]) -> Iterator[None]:
    """When something fails, show the end of each host's log."""
    try:
        yield
    except errors.LatticeError:
        for host in hosts:
            lines = host.last_words().splitlines()[-LOG_LINES:]
            output.note("\n".join([f"the end of the log of {host.name}:", *lines]))
        raise


def _expect(outcome: bool, text: str) -> None:
    if not outcome:
        raise Failed(text)


async def _wait_listening(port: int) -> None:
    for _ in range(SETTLE_ATTEMPTS):
        if not local.is_port_free(port):
            return
        await asyncio.sleep(SETTLE_PAUSE_S)
    raise Failed(f"nobody listens on port {port}")


def _get(url: str, *, with_status: bool) -> str:
    """What curl would print, by the standard library."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=COMMAND_TIMEOUT_S) as response:
            status, body = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    except OSError:
        status, body = 0, b""
    text: str = body.decode(errors="replace")
    return f"{text}{status:03}\n" if with_status else text
