"""The contract of a backend. Its docstrings are the specification; one suite runs every backend.

``tests/contract/test_blobstore_store.py`` is that suite. Names arrive checked against the bounds of
their length, parts against that of a chunk; what an object may come to, the caller checks.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lattice import errors


class ContainerId(NamedTuple):
    """A container, unique in a backend."""

    namespace: str
    """Letters, digits, ``-`` and ``_``: containers of one name in two namespaces are two."""
    name: str
    """Any text that is not empty."""


class ObjectId(NamedTuple):
    """An object, unique in a backend."""

    container: ContainerId
    name: str
    """Any text that is not empty."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an object."""

    name: str
    size: int
    """Bytes."""
    created_at_s: float
    """When its content was written, in seconds since 1970, on the backend's clock."""
    version: str
    """Another one for other content: whoever reads in parts sees that they belong together."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of an object's content, and the object it is of."""

    of: ObjectInfo
    data: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a container's objects."""

    objects: list[ObjectInfo]
    cursor: str | None
    """Where the next page begins; None when this is the last."""


class Writer(Protocol):
    """An object on its way in: nobody sees it before it is committed.

    One call at a time. After one that failed or was cancelled, only ``abort`` may follow.
    """

    async def append(self, data: bytes) -> None:
        """Add to the end; returns when the backend has taken it, so that nothing piles up."""
        ...

    async def commit(self) -> ObjectInfo:
        """Make the object what was appended, whole, in place of one of the same name.

        Of several writers of one object the last to commit wins. Cancelling may leave it done or
        not done.

        Raises:
            NotFound: the container is gone.
        """
        ...

    async def abort(self) -> None:
        """Leave nothing of it. Safe to call twice, and after ``commit``."""
        ...


class Store(Protocol):
    """Containers of objects.

    Every method raises ``Unavailable`` when the backend is away or silent (a write may have been
    done then), ``Denied`` when it refuses the credentials, and ``ProviderError`` when it refuses
    the work: it is full, or not set up. The store repairs its connection by itself.
    """

    @property
    def label(self) -> str:
        """What a person calls this backend, with its address and without credentials."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and files. Safe to call twice."""
        ...

    async def ping(self) -> None:
        """Return if the backend can do its work now."""
        ...

    async def create_container(self, container: ContainerId) -> None:
        """Make a container; one that is there stays as it is."""
        ...

    async def container_created_at_s(self, container: ContainerId) -> float | None:
        """When it was made, in seconds since 1970; None if there is none."""
        ...

    async def containers(self, namespace: str) -> list[str]:
        """Names of all containers, sorted."""
        ...

    async def delete_container(self, container: ContainerId) -> None:
        """Remove a container and all in it; none is there afterwards."""
        ...

    async def objects(self, container: ContainerId, cursor: str | None, count: int) -> Page:
        """Up to ``count`` objects from where ``cursor`` says, of the page before.

        The order is the backend's own, the same each time. What is there all the while is listed
        once; what comes or goes meanwhile, perhaps.

        Raises:
            NotFound: there is no such container.
        """
        ...

    async def info(self, object_id: ObjectId) -> ObjectInfo | None:
        """What is known of an object; None if there is none.

        Raises:
            NotFound: there is no such container.
        """
        ...

    async def read(
        self, object_id: ObjectId, start: int, size: int, *, version: str | None = None
    ) -> Part:
        """Up to ``size`` bytes from offset ``start``; less where the object ends.

        Raises:
            NotFound: there is no such object, or container.
            Conflict: the object has not the ``version`` named.
        """
        ...

    async def writer(self, object_id: ObjectId) -> Writer:
        """Begin to write an object.

        Raises:
            NotFound: there is no such container.
        """
        ...

    async def delete(self, object_id: ObjectId) -> None:
        """Remove an object, if it is there.

        Raises:
            NotFound: there is no such container.
        """
        ...

    async def copy(self, source: ObjectId, target: ObjectId) -> None:
        """Make ``target`` what ``source`` is at one moment.

        Raises:
            NotFound: there is no such source, or no such container.
            Conflict: the source was replaced meanwhile; the target is as it was.
        """
        ...


def no_container(container: ContainerId) -> errors.NotFound:
    return errors.NotFound(
        f"there is no container {container.name!r}", detail={"container": container.name}
    )


def no_object(object_id: ObjectId) -> errors.NotFound:
    container = object_id.container.name
    return errors.NotFound(
        f"container {container!r} has no object {object_id.name!r}",
        detail={"container": container, "object": object_id.name},
    )


def replaced(object_id: ObjectId) -> errors.Conflict:
    return errors.Conflict(
        f"object {object_id.name!r} was replaced while it was read; begin again",
        detail={"container": object_id.container.name, "object": object_id.name},
    )
