"""An actor of a test: called, asked over HTTP, replaced; what it wrote, and what its calls cost."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lattice import limits
from lattice.testing.background import Background, Pending
from lattice.testing.ground import TESTER, Ground, now_s, wait_listening
from lattice.wire import codec
from lattice.wire.invocation import Invocation, Reply, Usage
from lattice.wire.logs import Line

if TYPE_CHECKING:
    import httpx

Module = Path | str | bytes
"""A module or a component: its file, or its content."""


class Answer(bytes):
    """What an actor answered, and what that took."""

    usage: Usage | None

    @classmethod
    def of(cls, reply: Reply) -> Self:
        answer = cls(reply.payload)
        answer.usage = reply.usage
        return answer

    @property
    def value(self) -> Any:
        """The answer, decoded from msgpack.

        Raises:
            InvalidRequest: it is none.
        """
        return codec.unpack(self)


class Actor:
    """One actor that runs in a test's lattice."""

    def __init__(
        self,
        actor_id: str,
        background: Background,
        ground: Ground,
        *,
        address: Callable[[], Awaitable[str]],
    ) -> None:
        """``address``: has the actor answer HTTP, and says where."""
        self.id = actor_id
        self.http = Http(background, address)
        self._background = background
        self._ground = ground

    def call(
        self,
        operation: str,
        payload: bytes = b"",
        *,
        interface: str = "",
        timeout_s: float = limits.CALL_TIMEOUT_S,
        key: str | None = None,
    ) -> Pending[Answer]:
        """Call an operation with a payload as it is; ``key`` is an idempotency key.

        Raises, when awaited:
            LatticeError: what the call ended with.
        """

        async def call() -> Answer:
            invocation = Invocation(
                source=TESTER,
                target=self.id,
                interface=interface,
                operation=operation,
                payload=payload,
                deadline=now_s() + timeout_s,
                key=key,
            )
            return Answer.of(await self._ground.call(invocation))

        return self._background.run(call())

    def invoke(
        self, function: str, *arguments: object, timeout_s: float = limits.CALL_TIMEOUT_S
    ) -> Pending[Any]:
        """Call an exported function of a component with values, and give its result.

        Raises, when awaited:
            LatticeError: what the call ended with.
        """

        async def invoke() -> Any:
            payload = codec.pack(list(arguments))
            answer = await self.call(function, payload, timeout_s=timeout_s)
            return answer.value if answer else None

        return self._background.run(invoke())

    def logs(self) -> Pending[list[Line]]:
        """What it wrote so far, and its host about it, such as a trap with its backtrace."""
        return self._background.run(self._ground.lines_of(self.id))

    def replace(self, module: Module) -> Pending[None]:
        """Give it other code while it runs; calls that run end in the old one."""

        async def replace() -> None:
            reference = await self._ground.upload(self.id, content(module))
            await self._ground.update(self.id, reference)

        return self._background.run(replace())

    def stop(self) -> Pending[None]:
        """Stop it; calls that run end first."""
        return self._background.run(self._ground.scale(self.id, count=0, config=self.id))


class Http:
    """A client of an actor that answers HTTP, through a real web server."""

    def __init__(self, background: Background, address: Callable[[], Awaitable[str]]) -> None:
        self._background = background
        self._address = address
        self._client: httpx.AsyncClient | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | str | None = None,
        json: Any = None,
        data: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = limits.CALL_TIMEOUT_S,
    ) -> Pending["httpx.Response"]:
        """Ask for something; redirects are not followed.

        Raises, when awaited:
            httpx.HTTPError: no answer came.
        """

        async def request() -> "httpx.Response":
            client = await self._open()
            return await client.request(
                method,
                path,
                content=content,
                json=json,
                data=data,
                params=params,
                headers=headers,
                timeout=timeout_s,
            )

        return self._background.run(request())

    def get(self, path: str, **options: Any) -> Pending["httpx.Response"]:
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> Pending["httpx.Response"]:
        return self.request("HEAD", path, **options)

    def post(self, path: str, **options: Any) -> Pending["httpx.Response"]:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Pending["httpx.Response"]:
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Pending["httpx.Response"]:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Pending["httpx.Response"]:
        return self.request("DELETE", path, **options)

    def url(self) -> Pending[str]:
        """Where it answers, for clients of the test's own."""

        async def url() -> str:
            return str((await self._open()).base_url)

        return self._background.run(url())

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _open(self) -> "httpx.AsyncClient":
        import httpx  # noqa: PLC0415 - only those tests need it that ask over HTTP

        if self._client is None:
            address = await self._address()
            await wait_listening(address)
            # Of two that came at once the second finds the client of the first.
            self._client = self._client or httpx.AsyncClient(
                base_url=f"http://{address}", trust_env=False
            )
        return self._client


def content(module: Module) -> bytes:
    """The bytes of a module.

    Raises:
        OSError: it can't be read.
    """
    return module if isinstance(module, bytes) else Path(module).read_bytes()
