"""The lattice's own artefact store: modules by digest, so that any host can fetch what it runs.

An artefact's reference is ``lattice://{name}@sha256:{hex}``: the name is for people, the digest
decides.
"""

import hashlib
import re
from dataclasses import dataclass

from lattice import errors, limits, subjects
from lattice.bus import Bus, ObjectStore

SCHEME = "lattice://"

_REFERENCE = re.compile(
    r"lattice://(?P<name>[A-Za-z0-9._-]{1,128})@sha256:(?P<digest>[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class StoredArtefact:
    """A reference into the lattice's artefact store."""

    name: str
    digest: str
    """SHA-256 in lower-case hex."""

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}@sha256:{self.digest}"


def parse(reference: str) -> StoredArtefact:
    """Read a reference.

    Raises:
        InvalidRequest: not one.
    """
    if (match := _REFERENCE.fullmatch(reference)) is None:
        raise errors.InvalidRequest(
            f"{reference[:200]!r} is not of the form lattice://NAME@sha256:DIGEST"
        )
    return StoredArtefact(**match.groupdict())


async def upload(bus: Bus, lattice: str, name: str, content: bytes) -> StoredArtefact:
    """Store an artefact, unless it is there already, and return its reference.

    Raises:
        InvalidRequest: not a name for one.
        PayloadTooLarge: larger than any host would load.
        Unavailable: NATS is away, or has no JetStream.
    """
    artefact = _named(name, content)
    store = await _store(bus, lattice)
    if not await store.has(artefact.digest):
        await store.put(artefact.digest, content)
    return artefact


async def find(bus: Bus, lattice: str, name: str, content: bytes) -> StoredArtefact | None:
    """The reference of an artefact that is stored already; None if it is not.

    Raises:
        InvalidRequest, PayloadTooLarge, Unavailable: as ``upload``.
    """
    artefact = _named(name, content)
    return artefact if await (await _store(bus, lattice)).has(artefact.digest) else None


async def download(bus: Bus, lattice: str, artefact: StoredArtefact) -> bytes:
    """Fetch an artefact; its content is what the digest says.

    Raises:
        NotFound: the store does not have it.
        Denied: what the store has under that digest is something else.
        Unavailable: NATS is away.
    """
    store = await bus.objects(subjects.artefact_bucket(lattice))
    try:
        content = await store.get(artefact.digest, bytes_max=limits.MODULE_BYTES_MAX)
    except errors.NotFound:
        raise errors.NotFound(
            f"{artefact} is not found in lattice {lattice}: upload it, or start it from its file"
        ) from None
    if hashlib.sha256(content).hexdigest() != artefact.digest:
        raise errors.Denied(f"the content stored for {artefact} has another digest")
    return content


def _named(name: str, content: bytes) -> StoredArtefact:
    if len(content) > limits.MODULE_BYTES_MAX:
        raise errors.PayloadTooLarge(f"artefact {name}", len(content), limits.MODULE_BYTES_MAX)
    return parse(f"{SCHEME}{name}@sha256:{hashlib.sha256(content).hexdigest()}")


async def _store(bus: Bus, lattice: str) -> ObjectStore:
    # Who uploads need not know how many copies this lattice keeps of what it has.
    replicas = await bus.account.replicas(subjects.state_bucket(lattice))
    return await bus.objects(subjects.artefact_bucket(lattice), replicas=replicas)
