"""Pulls artefacts from OCI registries and pushes them there, by the distribution specification.

A client of our own on httpx: of those on the package index, oras has no time limits and believes
what it is sent, and python-dxf, which checks digests, blocks and holds one registry per session.

What this one promises: every byte is checked against its digest and its size; nothing waits for
ever; credentials go to their registry, and to where that registry sends us for a token, never along
with a redirection; nothing goes in the clear to a registry for which that is not allowed.
"""

import asyncio
import json
import platform
import re
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import httpx
import structlog

from lattice import __version__, errors, limits
from lattice.aio import retry
from lattice.registry import manifests
from lattice.registry.credentials import Credentials, RegistryAccess
from lattice.registry.manifests import Descriptor, Index, Manifest
from lattice.registry.references import DOCKER_HUB, Reference

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Told how many bytes of how many have gone over."""

log = structlog.get_logger()

TRANSFER_TIMEOUT_S = 300.0
"""For one artefact, all told: the largest archive over a slow line. Drops by drops, it ends too."""

CONNECT_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 20.0
"""How long a registry may send nothing, or take nothing."""

ATTEMPTS_MAX = 3
"""Tries of one step: registries restart, and say 429 when asked too often."""

RETRY_DELAY_S = 0.5
RETRY_AFTER_S_MAX = 10.0
"""The longest pause taken at a registry's word."""

REDIRECTS_MAX = 5

ANSWER_BYTES_MAX = 64 * limits.KIB
"""Largest answer that is a token or an error."""

CHUNK_BYTES = 256 * limits.KIB

_API_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_REDIRECTS = {301, 302, 303, 307, 308}
_PARAMETER = re.compile(r'\b(\w{1,32})="([^"]*)"')
CHALLENGE_CHARS_MAX = 8_000
"""Longest challenge that is looked at: a scheme, an address and a few words."""


class RegistryUnavailable(errors.Unavailable):
    """The registry can't be reached, or is in no state to answer."""

    remedy = "see that the registry answers, and try again"

    retry_after_s: float | None = None
    """When it wants to be asked again."""


class RegistryDenied(errors.Denied):
    """The registry wants other credentials."""

    remedy = (
        "log in with docker login, give --user and --password, or have hosts know the credentials"
        " (LATTICE_OCI_REGISTRY, LATTICE_OCI_USER, LATTICE_OCI_PASSWORD)"
    )


class Shelf(Protocol):
    """Content by digest, kept from earlier."""

    async def get(self, digest: str) -> bytes | None: ...

    async def put(self, digest: str, content: bytes) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a reference meant when it was asked for."""

    reference: Reference
    """With the digest that its tag had."""
    layer: Descriptor
    annotations: Mapping[str, str]

    @property
    def digest(self) -> str:
        assert self.reference.digest is not None
        return self.reference.digest


class Repository:
    """One name in one registry. Made by ``connect``; connects when it has to."""

    def __init__(
        self, access: RegistryAccess, reference: Reference, shelf: Shelf | None, pause_s: float
    ) -> None:
        self._access = access
        self._registry = reference.registry
        self._insecure = access.is_insecure(reference.registry)
        host = _API_HOSTS.get(reference.registry, reference.registry)
        scheme = "http" if self._insecure else "https"
        try:
            self._base = httpx.URL(f"{scheme}://{host}/v2/{reference.name}/")
        except httpx.InvalidURL:
            raise errors.InvalidRequest(f"{reference.registry} can't be a host's name") from None
        self._shelf = shelf
        self._pause_s = pause_s
        self._authorization: str | None = None
        self._client: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def resolve(self, reference: Reference) -> Resolved:
        """Find out what a reference means now.

        Raises:
            NotFound: the registry does not have it, or nothing for this machine.
            Denied: it wants other credentials, or sent something else than was asked for.
            InvalidRequest: it is not an actor or a provider.
            Unavailable: the registry can't be reached.
        """
        content = await self._document(reference)
        pinned = replace(reference, digest=manifests.digest_of(content))
        found = manifests.parse(content)
        if isinstance(found, Index):
            architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
            entry = manifests.chosen(found, architecture=architecture, os=sys.platform)
            found = manifests.parse(await self._document(replace(reference, digest=entry.digest)))
        if not isinstance(found, Manifest):
            raise errors.InvalidRequest(f"{reference} is an index of indexes")
        return Resolved(
            reference=pinned, layer=manifests.layer(found), annotations=found.annotations or {}
        )

    async def download(
        self, layer: Descriptor, *, bytes_max: int, on_progress: Progress | None = None
    ) -> bytes:
        """Fetch a layer whole; it is what its digest says.

        Raises:
            PayloadTooLarge: larger than ``bytes_max``; nothing is fetched.
            Others: as ``resolve``.
        """
        if layer.size > bytes_max:
            raise errors.PayloadTooLarge(f"layer {layer.digest}", layer.size, bytes_max)
        if self._shelf is not None and (kept := await self._shelf.get(layer.digest)) is not None:
            return kept
        url = self._base.join(f"blobs/{layer.digest}")

        async def attempt() -> bytes:
            async with self._get(url, {}) as response:
                return await _read(
                    response, layer.size, what=f"layer {layer.digest}", on_progress=on_progress
                )

        content = await self._tried(attempt)
        await self._verified(layer.digest, content)
        return content

    async def push(
        self, reference: Reference, push: manifests.Push, *, on_progress: Progress | None = None
    ) -> str:
        """Store an artefact under the reference's tag, and return its digest.

        Raises:
            Denied: the registry wants other credentials.
            InvalidRequest: it does not take the artefact.
            Unavailable: the registry can't be reached.
        """
        await self._tried(lambda: self._upload(push.content, on_progress))
        await self._tried(lambda: self._upload(push.config, None))
        url = self._base.join(f"manifests/{reference.target}")
        headers = {"Content-Type": manifests.MANIFEST}

        async def attempt() -> None:
            async with self._exchange("PUT", url, headers, body=push.manifest) as response:
                await self._expect(response, 201)

        await self._tried(attempt)
        return manifests.digest_of(push.manifest)

    async def _document(self, reference: Reference) -> bytes:
        """A manifest or an index, checked against the digest if the reference has one."""
        if reference.digest and self._shelf is not None:
            kept = await self._shelf.get(reference.digest)
            if kept is not None:
                return kept
        url = self._base.join(f"manifests/{reference.target}")

        async def attempt() -> tuple[bytes, str]:
            async with self._get(url, {"Accept": manifests.ACCEPTED}) as response:
                said = response.headers.get("docker-content-digest", "")
                return await _read(response, None, what=f"the manifest of {reference}"), said

        content, said = await self._tried(attempt)
        digest = reference.digest or (said if said.startswith("sha256:") else None)
        await self._verified(digest or manifests.digest_of(content), content)
        return content

    async def _verified(self, digest: str, content: bytes) -> None:
        # Hundreds of MiB take long enough to be felt by whatever else this process does.
        if await asyncio.to_thread(manifests.digest_of, content) != digest:
            raise errors.Denied(f"{self._registry} sent something else than {digest}")
        if self._shelf is not None:
            await self._shelf.put(digest, content)

    async def _upload(self, blob: bytes, on_progress: Progress | None) -> None:
        digest = await asyncio.to_thread(manifests.digest_of, blob)
        async with self._exchange("HEAD", self._base.join(f"blobs/{digest}"), {}) as response:
            if response.status_code == httpx.codes.OK:
                return
        async with self._exchange("POST", self._base.join("blobs/uploads/"), {}) as response:
            await self._expect(response, 202)
            location = response.headers.get("location", "")
        url = self._followed(self._base, location).copy_merge_params({"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        async with self._exchange(
            "PUT", url, headers, body=blob, on_progress=on_progress
        ) as response:
            await self._expect(response, 201)

    @asynccontextmanager
    async def _get(
        self, url: httpx.URL, headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """A good answer to a question, from wherever the registry sends us for it."""
        async with AsyncExitStack() as stack:
            for _ in range(REDIRECTS_MAX + 1):
                response = await stack.enter_async_context(self._exchange("GET", url, headers))
                if response.status_code not in _REDIRECTS:
                    await self._expect(response, 200)
                    yield response
                    return
                url = self._followed(url, response.headers.get("location", ""))
        raise RegistryUnavailable(f"{self._registry} sends us in circles")

    def _followed(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            target = url.join(location)
        except httpx.InvalidURL:
            raise RegistryUnavailable(f"{self._registry} sends us to no address") from None
        if not location or not target.raw_host:
            raise RegistryUnavailable(f"{self._registry} sends us to no address")
        if target.scheme != "https" and not (self._insecure and target.scheme == "http"):
            raise errors.Denied(f"{self._registry} sends us to an address without TLS")
        return target

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        *,
        body: bytes | None = None,
        on_progress: Progress | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """One request and its answer, whatever that is; logs in when the registry asks for it."""
        client = await self._connected()
        own = _origin(url) == _origin(self._base)
        async with AsyncExitStack() as stack:
            for login in (True, False):
                sent = dict(headers)
                if own and self._authorization:
                    sent["Authorization"] = self._authorization
                if body is not None:
                    sent["Content-Length"] = str(len(body))
                content = None if body is None else _chunks(body, on_progress)
                with _translated(self._registry):
                    response = await stack.enter_async_context(
                        client.stream(method, url, headers=sent, content=content)
                    )
                refused = response.status_code == httpx.codes.UNAUTHORIZED
                if not (own and refused and login):
                    break
                await _finish(response)
                await self._log_in(client, response.headers.get_list("www-authenticate"))
            with _translated(self._registry):
                yield response
                await _finish(response)

    async def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            context = await asyncio.to_thread(_tls_context, self._access)
            self._client = httpx.AsyncClient(
                verify=context,
                timeout=httpx.Timeout(STALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                headers={
                    # Content is checked as it was stored, and nothing small may unfold into much.
                    "Accept-Encoding": "identity",
                    "User-Agent": f"lattice/{__version__}",
                },
            )
        return self._client

    async def _log_in(self, client: httpx.AsyncClient, challenges: list[str]) -> None:
        """Find out what to say to a registry that asks who we are.

        Raises:
            Denied: there is nothing that it would take.
        """
        credentials = await self._access.credentials(self._registry)
        challenge = ", ".join(challenges)[:CHALLENGE_CHARS_MAX]
        scheme = challenge.partition(" ")[0].lower()
        if credentials is not None and credentials.token:
            self._authorization = f"Bearer {credentials.token}"
        elif scheme == "bearer":
            parameters = dict(_PARAMETER.findall(challenge))
            self._authorization = f"Bearer {await self._token(client, parameters, credentials)}"
        elif scheme == "basic" and credentials is not None and credentials.basic:
            self._authorization = f"Basic {credentials.basic}"
        else:
            raise RegistryDenied(f"{self._registry} wants a user and a password")

    async def _token(
        self,
        client: httpx.AsyncClient,
        parameters: Mapping[str, str],
        credentials: Credentials | None,
    ) -> str:
        try:
            realm = httpx.URL(parameters.get("realm", ""))
        except httpx.InvalidURL:
            realm = httpx.URL("")
        if not self._may_log_in_at(realm):
            raise errors.Denied(
                f"{self._registry} wants us to log in at {_host(realm) or 'no address'!r}, without"
                " TLS"
            )
        wanted = {key: parameters[key] for key in ("service", "scope") if key in parameters}
        headers = {}
        if credentials is not None and credentials.basic:
            headers["Authorization"] = f"Basic {credentials.basic}"
        with _translated(_host(realm)):
            async with client.stream(
                "GET", realm.copy_merge_params(wanted), headers=headers
            ) as response:
                await self._expect(response, 200)
                content = await _read(response, None, what="token", bytes_max=ANSWER_BYTES_MAX)
        try:
            fields = json.loads(content)
            token = fields.get("token") or fields.get("access_token")
        except (ValueError, RecursionError, AttributeError):
            token = None
        # Printable ASCII, or it would not be a header's value.
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise RegistryUnavailable(f"{_host(realm)} answered with no token for {self._registry}")
        return token

    def _may_log_in_at(self, realm: httpx.URL) -> bool:
        if realm.scheme == "https" and realm.raw_host:
            return True
        address = realm.netloc.decode()
        near = realm.raw_host == self._base.raw_host or self._access.is_insecure(address)
        return self._insecure and realm.scheme == "http" and near

    async def _expect(self, response: httpx.Response, status: int) -> None:
        """Make an error of any other answer."""
        if response.status_code == status:
            return
        text = f"{_host(response.url)}: {response.status_code}"
        if reason := await _reason(response):
            text += f", {reason}"
        match response.status_code:
            case 401 | 403:
                raise RegistryDenied(text)
            case 404:
                name = self._base.path.removeprefix("/v2/").strip("/")
                raise errors.NotFound(f"{self._registry} does not have {name} as asked for: {text}")
            case 408 | 429 | 500 | 502 | 503 | 504:
                unavailable = RegistryUnavailable(text)
                unavailable.retry_after_s = _number(response.headers.get("retry-after"))
                raise unavailable
            case _:
                raise errors.InvalidRequest(text)

    async def _tried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        pauses = retry.backoff(self._pause_s)
        for number in range(1, ATTEMPTS_MAX + 1):
            try:
                return await attempt()
            except RegistryUnavailable as error:
                if number == ATTEMPTS_MAX:
                    raise
                pause_s = max(next(pauses), error.retry_after_s or 0)
                log.info("registry is asked again", registry=self._registry, reason=error.text)
                await asyncio.sleep(min(pause_s, RETRY_AFTER_S_MAX))
        raise AssertionError


@asynccontextmanager
async def connect(
    access: RegistryAccess,
    reference: Reference,
    *,
    shelf: Shelf | None = None,
    timeout_s: float = TRANSFER_TIMEOUT_S,
    pause_s: float = RETRY_DELAY_S,
) -> AsyncIterator[Repository]:
    """The repository of a reference, for ``timeout_s`` at the most.

    What is on the ``shelf`` is not asked for again; what is fetched goes there.

    Raises:
        Denied: a reference that names no version, which is not allowed.
        DeadlineExceeded: the time is up.
    """
    access.check(reference)
    repository = Repository(access, reference, shelf, pause_s)
    try:
        async with asyncio.timeout(timeout_s):
            yield repository
    except TimeoutError:
        raise errors.DeadlineExceeded(
            f"{reference.registry} was not done with {reference} within {timeout_s:g} s"
        ) from None
    finally:
        await repository.aclose()


class _translated:  # noqa: N801 - used as a function
    """Give httpx's failures as ours."""

    def __init__(self, registry: str) -> None:
        self._registry = registry

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx.TimeoutException):
            raise RegistryUnavailable(f"{self._registry} does not answer") from None
        # The last is what becomes of a host's name that none can have.
        if isinstance(error, httpx.HTTPError | httpx.StreamError | UnicodeError):
            raise RegistryUnavailable(f"{self._registry}: {_explained(error)}") from None


def _explained(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "WRONG_VERSION_NUMBER" in text or "record layer" in text:
        return "it does not speak TLS; if that is as it should be, allow it with --insecure"
    return text[:200]


async def _read(
    response: httpx.Response,
    size: int | None,
    *,
    what: str,
    bytes_max: int = manifests.MANIFEST_BYTES_MAX,
    on_progress: Progress | None = None,
) -> bytes:
    """The body: exactly ``size`` bytes, or where that is not known ``bytes_max`` at the most."""
    content = bytearray()
    async for chunk in response.aiter_raw(CHUNK_BYTES):
        content += chunk
        if size is None and len(content) > bytes_max:
            raise errors.PayloadTooLarge(what, len(content), bytes_max)
        if size is not None and len(content) > size:
            raise errors.Denied(f"{_host(response.url)} sent more than the {size} bytes of {what}")
        if on_progress is not None and size is not None:
            on_progress(len(content), size)
    if size is not None and len(content) < size:
        raise RegistryUnavailable(f"{_host(response.url)} sent {len(content)} of {size} bytes")
    return bytes(content)


async def _reason(response: httpx.Response) -> str:
    """What a registry says of its refusal, cut to what a line holds."""
    try:
        content = await _read(response, None, what="answer", bytes_max=ANSWER_BYTES_MAX)
        first = json.loads(content)["errors"][0]
        return f"{first['code']}: {first['message']}"[:200]
    except (errors.PayloadTooLarge, ValueError, RecursionError, LookupError, TypeError):
        return ""


async def _finish(response: httpx.Response) -> None:
    """Read what is left of a small answer, so that its connection serves the next request."""
    length = _number(response.headers.get("content-length"))
    if not response.is_stream_consumed and length is not None and length <= ANSWER_BYTES_MAX:
        async for _ in response.aiter_raw():
            pass


async def _chunks(body: bytes, on_progress: Progress | None) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])
        if on_progress is not None:
            on_progress(min(start + CHUNK_BYTES, len(view)), len(view))


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


def _host(url: httpx.URL) -> str:
    # Its own ``host`` fails on names in an encoding that nobody can decode.
    return url.raw_host.decode("ascii", "replace")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,6}", text) else None


def _tls_context(access: RegistryAccess) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if access.certificates is not None:
        try:
            context.load_verify_locations(access.certificates)
        except (OSError, ssl.SSLError) as error:
            raise errors.InvalidRequest(
                f"can't read certificates from {access.certificates}: {error}"
            ) from None
    return context
