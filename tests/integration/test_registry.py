"""The client of OCI registries against a real one, and against ones that lie, stall and break."""

import asyncio
import hashlib
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from lattice import errors, limits
from lattice.registry import client, manifests, references
from lattice.registry.client import RegistryDenied, RegistryUnavailable
from lattice.registry.credentials import Credentials, RegistryAccess
from tests.support.registry import (
    PASSWORD,
    USER,
    Answer,
    Behaviour,
    Front,
    Request,
    docker_registry,
)

CONTENT = b"\0asm\1\0\0\0" + bytes(range(256)) * 4_000
PUSH = manifests.compose(CONTENT)
LAYER = manifests.digest_of(CONTENT)
ALICE = Credentials(username=USER, password=PASSWORD)

QUICK_S = 0.01


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[str]:
    async with docker_registry(tmp_path / "registry") as address:
        yield address


@pytest.fixture
async def front(registry: str) -> AsyncIterator[Front]:
    """A front of a registry that has ``echo:1``."""
    async with Front(registry) as front:
        await push(f"{front.address}/echo:1", insecure(front.address))
        front.requests.clear()
        front.connections = 0
        yield front


def insecure(*addresses: str, **fields: Any) -> RegistryAccess:
    return RegistryAccess(allowed_insecure=addresses, **fields)


async def push(
    text: str, access: RegistryAccess, what: manifests.Push = PUSH, **options: Any
) -> str:
    reference = references.parse(text)
    async with client.connect(access, reference, pause_s=QUICK_S, **options) as repository:
        return await repository.push(reference, what)


async def pull(
    text: str, access: RegistryAccess, *, bytes_max: int = limits.MODULE_BYTES_MAX, **options: Any
) -> bytes:
    reference = references.parse(text)
    async with client.connect(access, reference, pause_s=QUICK_S, **options) as repository:
        resolved = await repository.resolve(reference)
        return await repository.download(resolved.layer, bytes_max=bytes_max)


def instead(part: str, answer: Answer, *, method: str = "GET") -> Behaviour:
    """Give this answer to what asks for ``part``."""

    async def behave(request: Request, _: asyncio.StreamWriter) -> Answer | None:
        return answer if request.method == method and part in request.target else None

    return behave


async def test_what_was_pushed_is_pulled(registry: str) -> None:
    access = insecure(registry)
    pushed = await push(f"{registry}/some/echo:1", access)

    assert await pull(f"{registry}/some/echo:1", access) == CONTENT
    assert await pull(f"{registry}/some/echo@{pushed}", access) == CONTENT


async def test_a_tag_is_resolved_to_the_digest_that_push_gave(registry: str) -> None:
    access = insecure(registry)
    pushed = await push(
        f"{registry}/echo:1", access, manifests.compose(CONTENT, annotations={"a": "b"})
    )

    reference = references.parse(f"{registry}/echo:1")
    async with client.connect(access, reference) as repository:
        resolved = await repository.resolve(reference)

    assert resolved.digest == pushed
    assert str(resolved.reference) == f"{registry}/echo:1@{pushed}"
    assert resolved.annotations == {"a": "b"}


async def test_what_the_registry_has_is_not_sent_again(front: Front) -> None:
    await push(f"{front.address}/echo:2", insecure(front.address))

    assert front.asked("PUT", "/blobs/") == []
    assert len(front.asked("PUT", "/manifests/2")) == 1


async def test_progress_is_told_to_the_end_both_ways(registry: str) -> None:
    access, told = insecure(registry), []
    reference = references.parse(f"{registry}/echo:1")
    async with client.connect(access, reference) as repository:
        await repository.push(
            reference, PUSH, on_progress=lambda done, total: told.append((done, total))
        )
    assert (len(CONTENT), len(CONTENT)) in told

    told.clear()
    async with client.connect(access, reference) as repository:
        resolved = await repository.resolve(reference)
        await repository.download(
            resolved.layer,
            bytes_max=limits.MODULE_BYTES_MAX,
            on_progress=lambda done, total: told.append((done, total)),
        )
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


async def test_latest_is_refused_before_anything_is_asked(front: Front) -> None:
    for text in (f"{front.address}/echo", f"{front.address}/echo:latest"):
        with pytest.raises(errors.Denied, match="--allow-latest"):
            await pull(text, insecure(front.address))
    assert front.connections == 0


async def test_latest_is_pulled_where_it_is_allowed(registry: str) -> None:
    access = insecure(registry, allow_latest=True)
    await push(f"{registry}/echo:latest", access)
    assert await pull(f"{registry}/echo", access) == CONTENT


@pytest.mark.parametrize("text", ["nothing:1", "echo:none", f"echo@sha256:{'0' * 64}"])
async def test_what_is_not_there_is_not_found(front: Front, text: str) -> None:
    with pytest.raises(errors.NotFound, match="does not have"):
        await pull(f"{front.address}/{text}", insecure(front.address))
    assert len(front.requests) == 1


async def test_a_layer_over_the_limit_is_not_fetched(front: Front) -> None:
    with pytest.raises(errors.PayloadTooLarge) as refusal:
        await pull(f"{front.address}/echo:1", insecure(front.address), bytes_max=1000)
    assert refusal.value.detail == {"size": len(CONTENT), "limit": 1000}
    assert front.asked("GET", "/blobs/") == []


async def test_a_registry_with_passwords_serves_who_has_one(tmp_path: Path) -> None:
    async with docker_registry(tmp_path / "registry", login=True) as address:
        access = insecure(address, own={address: ALICE})
        await push(f"{address}/echo:1", access)
        assert await pull(f"{address}/echo:1", access) == CONTENT

        with pytest.raises(RegistryDenied, match="wants a user and a password"):
            await pull(f"{address}/echo:1", insecure(address))

        access.put({address: Credentials(username=USER, password="wrong")})
        with pytest.raises(RegistryDenied, match="401") as refusal:
            await pull(f"{address}/echo:1", access)
        assert "wrong" not in refusal.value.text
        assert "docker login" in refusal.value.remedy


TOKEN = "token-for-echo"


def with_tokens(realm: Callable[[], str], *, expects: str | None) -> Behaviour:
    """A registry that wants bearer tokens, which are to be had at ``realm``."""

    async def behave(request: Request, _: asyncio.StreamWriter) -> Answer | None:
        if request.target.startswith("/token"):
            if request.headers.get("authorization") != expects:
                return Answer(401)
            return Answer(200, json.dumps({"token": TOKEN}).encode())
        if request.headers.get("authorization") == f"Bearer {TOKEN}":
            return None
        challenge = f'Bearer realm="{realm()}",service="test",scope="repository:echo:pull"'
        return Answer(401, headers={"www-authenticate": challenge})

    return behave


async def test_a_token_is_fetched_where_the_registry_says(front: Front) -> None:
    expects = f"Basic {ALICE.basic}"
    front.behaviour = with_tokens(lambda: f"http://{front.address}/token", expects=expects)

    access = insecure(front.address, own={front.address: ALICE})
    assert await pull(f"{front.address}/echo:1", access) == CONTENT
    await push(f"{front.address}/echo:2", access)

    (request, *_) = front.asked("GET", "/token")
    assert request.target == "/token?service=test&scope=repository%3Aecho%3Apull"


async def test_a_token_is_to_be_had_without_a_password(front: Front) -> None:
    front.behaviour = with_tokens(lambda: f"http://{front.address}/token", expects=None)
    assert await pull(f"{front.address}/echo:1", insecure(front.address)) == CONTENT
    assert len(front.asked("GET", "/token")) == 1


async def test_a_token_that_was_given_is_used_as_it_is(front: Front) -> None:
    front.behaviour = with_tokens(lambda: f"http://{front.address}/token", expects=None)
    access = insecure(front.address, own={front.address: Credentials(token=TOKEN)})
    assert await pull(f"{front.address}/echo:1", access) == CONTENT
    assert front.asked("GET", "/token") == []


async def test_a_password_is_not_sent_in_the_clear_to_another_host(front: Front) -> None:
    async with Front() as thief:
        elsewhere = thief.address.replace("127.0.0.1", "localhost")
        front.behaviour = with_tokens(lambda: f"http://{elsewhere}/token", expects=None)
        access = insecure(front.address, own={front.address: ALICE})
        with pytest.raises(errors.Denied, match="without TLS"):
            await pull(f"{front.address}/echo:1", access)
        assert thief.connections == 0


@pytest.mark.parametrize("realm", ["", "nonsense", "ftp://x/", "http://[", "file:///etc/passwd"])
async def test_a_realm_that_is_rubbish_is_refused(front: Front, realm: str) -> None:
    front.behaviour = with_tokens(lambda: realm, expects=None)
    with pytest.raises(errors.Denied, match="wants us to log in"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nb"}', b"[" * 50_000]
)
async def test_a_token_that_is_rubbish_is_refused(front: Front, content: bytes) -> None:
    tokens = with_tokens(lambda: f"http://{front.address}/token", expects=None)

    async def behave(request: Request, writer: asyncio.StreamWriter) -> Answer | None:
        if request.target.startswith("/token"):
            return Answer(200, content)
        return await tokens(request, writer)

    front.behaviour = behave
    with pytest.raises(RegistryUnavailable, match="no token"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_forbidden_is_denied(front: Front) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "not for you"}]}).encode()
    front.behaviour = instead("/manifests/", Answer(403, body))
    with pytest.raises(RegistryDenied, match="DENIED: not for you"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_a_manifest_that_is_not_its_digest_is_refused(front: Front) -> None:
    digest = manifests.digest_of(PUSH.manifest)
    front.behaviour = instead("/manifests/", Answer(200, PUSH.manifest + b" "))
    with pytest.raises(errors.Denied, match="something else than"):
        await pull(f"{front.address}/echo@{digest}", insecure(front.address))

    lie = Answer(200, PUSH.manifest + b" ", {"docker-content-digest": digest})
    front.behaviour = instead("/manifests/", lie)
    with pytest.raises(errors.Denied, match="something else than"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_a_layer_that_is_not_its_digest_is_refused(front: Front) -> None:
    front.behaviour = instead("/blobs/", Answer(200, bytes(len(CONTENT))))
    with pytest.raises(errors.Denied, match=f"something else than {LAYER}"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_a_layer_that_does_not_end_is_given_up(front: Front) -> None:
    front.behaviour = instead("/blobs/", Answer(200, CONTENT + bytes(10_000_000)))
    with pytest.raises(errors.Denied, match="sent more than"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_a_manifest_that_does_not_end_is_given_up(front: Front) -> None:
    front.behaviour = instead("/manifests/", Answer(200, b"[" * (5 * limits.MIB)))
    with pytest.raises(errors.PayloadTooLarge, match="the manifest of"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_an_index_is_looked_into_and_its_manifest_checked(front: Front) -> None:
    entry = {
        "mediaType": manifests.MANIFEST,
        "digest": manifests.digest_of(PUSH.manifest),
        "size": len(PUSH.manifest),
        "platform": {"architecture": "wasm", "os": "wasip1"},
    }
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    front.behaviour = instead("/manifests/many", Answer(200, index))
    assert await pull(f"{front.address}/echo:many", insecure(front.address)) == CONTENT


async def test_an_index_of_indexes_is_refused(front: Front) -> None:
    inner = json.dumps({"manifests": []}).encode()
    entry = {"digest": manifests.digest_of(inner), "size": len(inner)}
    index = json.dumps({"manifests": [entry]}).encode()

    async def behave(request: Request, _: asyncio.StreamWriter) -> Answer | None:
        return Answer(200, inner if "sha256" in request.target else index)

    front.behaviour = behave
    with pytest.raises(errors.InvalidRequest, match="index of indexes"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_a_redirection_is_followed_without_the_password(front: Front) -> None:
    async with Front() as storage:

        async def serve(_: Request, __: asyncio.StreamWriter) -> Answer:
            return Answer(200, CONTENT)

        storage.behaviour = serve
        location = f"http://{storage.address}/bucket/1?signature=x"
        front.behaviour = instead("/blobs/", Answer(307, headers={"location": location}))
        access = insecure(front.address, own={front.address: Credentials(token="secret")})

        assert await pull(f"{front.address}/echo:1", access) == CONTENT
        (request,) = storage.requests
        assert request.target == "/bucket/1?signature=x"
        assert "authorization" not in request.headers


async def test_redirections_in_circles_are_given_up(front: Front) -> None:
    circle = Answer(302, headers={"location": f"/v2/echo/blobs/{LAYER}"})
    front.behaviour = instead("/blobs/", circle)
    with pytest.raises(RegistryUnavailable, match="in circles"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file://host/etc/passwd"])
async def test_a_redirection_elsewhere_than_http_is_refused(front: Front, location: str) -> None:
    front.behaviour = instead("/blobs/", Answer(302, headers={"location": location}))
    with pytest.raises(errors.Denied, match="without TLS"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


@pytest.mark.parametrize(
    "location", ["", "http://", "http://[", "http://" + "a" * 70 + ".io/", "http://xn--a.io/"]
)
async def test_a_redirection_to_rubbish_is_refused(front: Front, location: str) -> None:
    front.behaviour = instead("/blobs/", Answer(302, headers={"location": location}))
    with pytest.raises(RegistryUnavailable):
        await pull(f"{front.address}/echo:1", insecure(front.address))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_registry_in_trouble_is_asked_again_and_given_up_on(
    front: Front, status: int
) -> None:
    front.behaviour = instead("/manifests/", Answer(status))
    with pytest.raises(RegistryUnavailable, match=str(status)):
        await pull(f"{front.address}/echo:1", insecure(front.address))
    assert len(front.asked("GET", "/manifests/")) == client.ATTEMPTS_MAX


async def test_a_registry_that_recovers_is_believed(front: Front) -> None:
    async def behave(_: Request, __: asyncio.StreamWriter) -> Answer | None:
        troubled = len(front.requests) % 2 == 1
        return Answer(503, headers={"retry-after": "0"}) if troubled else None

    front.behaviour = behave
    assert await pull(f"{front.address}/echo:1", insecure(front.address)) == CONTENT


async def test_a_connection_that_is_cut_is_made_again(front: Front) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> Answer | None:
        if "/blobs/" in request.target and len(front.asked("GET", "/blobs/")) < 3:
            writer.write(b"HTTP/1.1 200 X\r\ncontent-length: %d\r\n\r\n" % len(CONTENT))
            writer.write(CONTENT[:100])
            await writer.drain()
            writer.close()
        return None

    front.behaviour = behave
    assert await pull(f"{front.address}/echo:1", insecure(front.address)) == CONTENT


async def test_a_registry_that_is_not_there_is_unavailable() -> None:
    async with Front() as gone:
        address = gone.address
    with pytest.raises(RegistryUnavailable):
        await pull(f"{address}/echo:1", insecure(address))


async def test_an_answer_that_is_not_http_is_unavailable(front: Front) -> None:
    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()
        writer.close()

    front.behaviour = behave
    with pytest.raises(RegistryUnavailable):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_a_registry_that_says_nothing_is_given_up(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STALL_TIMEOUT_S", 0.05)

    async def behave(_: Request, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    front.behaviour = behave
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_a_registry_that_sends_drop_by_drop_is_given_up(front: Front) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        if "/blobs/" not in request.target:
            return
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: %d\r\n\r\n" % len(CONTENT))
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    front.behaviour = behave
    with pytest.raises(errors.DeadlineExceeded, match=r"within 0\.3 s"):
        await pull(f"{front.address}/echo:1", insecure(front.address), timeout_s=0.3)


async def test_a_push_that_is_refused_says_what_the_registry_said(front: Front) -> None:
    body = json.dumps({"errors": [{"code": "MANIFEST_INVALID", "message": "no"}]}).encode()
    front.behaviour = instead("/manifests/", Answer(400, body), method="PUT")
    with pytest.raises(errors.InvalidRequest, match="400, MANIFEST_INVALID: no"):
        await push(f"{front.address}/echo:2", insecure(front.address))


async def test_an_upload_is_not_sent_where_there_is_no_tls(registry: str) -> None:
    async with Front(registry) as front:
        away = Answer(202, headers={"location": "ftp://127.0.0.1/upload"})
        front.behaviour = instead("/uploads/", away, method="POST")
        with pytest.raises(errors.Denied, match="without TLS"):
            await push(f"{front.address}/echo:1", insecure(front.address))


@pytest.mark.parametrize("registry", ["999.1.1.1", "[::::]"])
async def test_a_name_that_no_host_can_have_is_refused(registry: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="can't be a host's name"):
        await pull(f"{registry}/echo:1", RegistryAccess())


@pytest.mark.parametrize(
    "challenge",
    ["", "Bearer", "Negotiate", "Basic", "x" * 60_000, 'a="' * 20_000, "Bearer realm=x"],
)
async def test_a_challenge_that_is_rubbish_is_refused(front: Front, challenge: str) -> None:
    front.behaviour = instead("/", Answer(401, headers={"www-authenticate": challenge}))
    with pytest.raises(errors.Denied):
        await pull(f"{front.address}/echo:1", insecure(front.address))


async def test_a_registry_without_tls_is_told_apart_from_one_that_is_away(registry: str) -> None:
    with pytest.raises(RegistryUnavailable, match="--insecure"):
        await pull(f"{registry}/echo:1", RegistryAccess())


async def test_one_connection_serves_a_whole_pull(front: Front) -> None:
    await pull(f"{front.address}/echo:1", insecure(front.address))
    assert front.connections == 1


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine that signs itself, and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=test"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


async def test_a_certificate_is_checked_against_the_authority_that_was_given(
    registry: str, certificate: tuple[Path, Path]
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    async with Front(registry, tls=tls) as front:
        with pytest.raises(RegistryUnavailable, match="certificate"):
            await push(f"{front.address}/echo:1", RegistryAccess())
        assert front.requests == []

        # The registry speaks of itself without TLS, as one behind a proxy that says nothing does.
        async def behave(request: Request, _: asyncio.StreamWriter) -> Answer | None:
            if "/manifests/" in request.target:
                return Answer(200, PUSH.manifest)
            return Answer(200, CONTENT)

        front.behaviour = behave
        access = RegistryAccess(certificates=certificate[0])
        assert await pull(f"{front.address}/echo:1", access) == CONTENT


async def test_certificates_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(errors.InvalidRequest, match=name):
            await pull("ghcr.io/a:1", RegistryAccess(certificates=tmp_path / name))


class Memory:
    """A shelf in memory."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    async def get(self, digest: str) -> bytes | None:
        return self.content.get(digest)

    async def put(self, digest: str, content: bytes) -> None:
        self.content[digest] = content


async def test_what_is_on_the_shelf_is_not_asked_for(front: Front) -> None:
    shelf, access = Memory(), insecure(front.address)
    await pull(f"{front.address}/echo:1", access, shelf=shelf)
    assert {f"sha256:{hashlib.sha256(kept).hexdigest()}" for kept in shelf.content.values()} == (
        shelf.content.keys()
    )

    front.requests.clear()
    await pull(f"{front.address}/echo:1", access, shelf=shelf)
    assert [request.target for request in front.requests] == ["/v2/echo/manifests/1"]

    front.requests.clear()
    digest = manifests.digest_of(PUSH.manifest)
    assert await pull(f"{front.address}/echo@{digest}", access, shelf=shelf) == CONTENT
    assert front.requests == []
