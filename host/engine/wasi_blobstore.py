"""``wasi:blobstore``: containers and the objects in them, over the link to a blob provider.

What goes over the link are the operations of the blob provider's page. A container is the link and
its name; an object crosses in parts of ``PART_BYTES``, never as a whole: what a guest reads is
fetched when it asks for it, by the version that it began with, and what it writes is sent when a
part is full, while the guest waits. Nobody sees an object before it is complete.

It is complete when the guest finishes the value, and also when it drops a value whose stream it
had dropped before: components that never call ``finish`` are about, and wasmCloud stores theirs. A
value that is dropped in any other way, or not at all, leaves nothing behind.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from host.engine import wit
from host.engine.component_guest import Abandonable, ComponentGuest, Lasting, Later, Table, told
from host.engine.guest import GuestFault, HostCalls
from host.engine.wasip2 import (
    BLOCKING_WRITE_BYTES,
    CHUNK_BYTES,
    Arrival,
    Condition,
    InputStream,
    OutputStream,
    err,
    get,
    ok,
)
from lattice import errors, limits
from lattice.wire import codec

TABLE = Table()
function = TABLE.put

PACKAGE = "wasi:blobstore"
"""What links are looked up by: containers are reached over one that names ``blobstore`` alone."""

BLOBSTORE = "wasi:blobstore/blobstore"
CONTAINER = "wasi:blobstore/container"
TYPES = "wasi:blobstore/types"

PART_BYTES = 14 * CHUNK_BYTES
"""Bytes of an object per call over the link: with their envelope they fit one message of NATS."""

SYNC_BYTES_MAX = limits.WIT_CROSSING_MAX - limits.KIB
"""A value that a guest takes at once; one that is larger has to be read as a stream."""

VALUES_MAX = 16
"""Objects that one call may read and write at a time; each holds a part, or two."""

NAMES_MAX = 10_000
"""Names of one reading of a list, which says whether there are more."""

NAMES_CHARS = 512 * limits.KIB
"""A reading of a list that has so many characters asks for no further page."""

PAGE_NAMES = 1_000
"""Names that one call over the link brings, or takes to be deleted: the provider's page."""


_STRING, _U64, _BOOL = wit.Primitive("string"), wit.Primitive("u64"), wit.Primitive("bool")
_STAMPED = (("name", _STRING), ("created-at", _U64))

CHECKS = {
    operation: wit.checker(wit.Variant((("ok", kind), ("err", _STRING))))
    for operation, kind in (
        ("blobstore.create-container", _STRING),
        ("blobstore.get-container", _STRING),
        ("blobstore.delete-container", None),
        ("blobstore.container-exists", _BOOL),
        ("blobstore.copy-object", None),
        ("blobstore.move-object", None),
        ("container.info", wit.Record(_STAMPED)),
        (
            "container.read-data",
            wit.Record(
                (("data", wit.List(wit.Primitive("u8"))), ("size", _U64), ("version", _STRING))
            ),
        ),
        ("container.write-data", None),
        ("container.begin-write", _STRING),
        ("container.append-data", _U64),
        ("container.commit-write", None),
        ("container.abort-write", None),
        (
            "container.list-objects",
            wit.Record((("names", wit.List(_STRING)), ("cursor", wit.Option(_STRING)))),
        ),
        ("container.delete-object", None),
        ("container.delete-objects", None),
        ("container.has-object", _BOOL),
        (
            "container.object-info",
            wit.Record((*_STAMPED, ("container", _STRING), ("size", _U64))),
        ),
        ("container.clear", None),
    )
}
"""What the provider's operations answer; others may be linked in its place, and answer anything."""


async def execute(host: HostCalls, link_name: str, operation: str, *arguments: Any) -> Any:
    """Execute an operation of the provider; gives what it answered.

    Raises:
        LatticeError: what came in its place, be it the provider's refusal or the lattice's.
    """
    answer = host.call(link_name, PACKAGE, operation, codec.pack(list(arguments)))
    if inspect.isawaitable(answer):
        answer = await answer
    try:
        result = codec.unpack(answer)
        CHECKS[operation](result, operation, wit.Budget())
    except errors.NotExecuted as error:
        raise errors.ProviderError(f"the blob store's answer: {error.text}") from None
    if "err" in result:
        code, _, text = result["err"].partition(": ")
        kind = errors.BY_CODE.get(code, errors.ProviderError)
        raise kind.from_parts(text if code in errors.BY_CODE else result["err"])
    return result["ok"]


def _failed(error: errors.LatticeError) -> dict[str, Any]:
    return err(told(error))


Work = Callable[[HostCalls], Coroutine[Any, Any, Any]]


def _later(guest: ComponentGuest, work: Work, finish: Callable[[Any], Any] = ok) -> Later:
    """Do something over the link, after what the guest has left to be done."""

    async def begin(host: HostCalls) -> Any:
        while guest.afterwards:
            await guest.afterwards.pop(0)()
        return await work(host)

    return Later(begin, finish, _failed, is_host_call=True)


def _simply(
    guest: ComponentGuest,
    link_name: str,
    operation: str,
    *arguments: Any,
    finish: Callable[[Any], Any] = ok,
) -> Later:
    """Do what is one operation."""
    return _later(guest, lambda host: execute(host, link_name, operation, *arguments), finish)


class Container(Lasting):
    """A container that a guest has opened: the name of the link that leads there, and its own."""

    __slots__ = ("link_name", "name")

    def __init__(self, link_name: str, name: str) -> None:
        self.link_name = link_name
        self.name = name

    async def execute(self, host: HostCalls, operation: str, *arguments: Any) -> Any:
        return await execute(host, self.link_name, operation, self.name, *arguments)


def _link_name(guest: ComponentGuest) -> str:
    return guest.link_name(BLOBSTORE, CONTAINER)


def _opening(guest: ComponentGuest, operation: str, name: str) -> Later:
    link_name = _link_name(guest)

    def finish(_name: str) -> Any:
        return ok(guest.own("container", Container(link_name, name)))

    return _simply(guest, link_name, operation, name, finish=finish)


@function(BLOBSTORE, "create-container", suspends=True)
def _create_container(guest: ComponentGuest, name: str) -> Later:
    return _opening(guest, "blobstore.create-container", name)


@function(BLOBSTORE, "get-container", suspends=True)
def _get_container(guest: ComponentGuest, name: str) -> Later:
    return _opening(guest, "blobstore.get-container", name)


@function(BLOBSTORE, "delete-container", suspends=True)
def _delete_container(guest: ComponentGuest, name: str) -> Later:
    return _simply(guest, _link_name(guest), "blobstore.delete-container", name)


@function(BLOBSTORE, "container-exists", suspends=True)
def _container_exists(guest: ComponentGuest, name: str) -> Later:
    return _simply(guest, _link_name(guest), "blobstore.container-exists", name)


@function(BLOBSTORE, "copy-object", suspends=True)
def _copy_object(guest: ComponentGuest, source: dict[str, str], target: dict[str, str]) -> Later:
    return _simply(guest, _link_name(guest), "blobstore.copy-object", source, target)


@function(BLOBSTORE, "move-object", suspends=True)
def _move_object(guest: ComponentGuest, source: dict[str, str], target: dict[str, str]) -> Later:
    return _simply(guest, _link_name(guest), "blobstore.move-object", source, target)


def _in_container(guest: ComponentGuest, number: int, operation: str, *arguments: Any) -> Later:
    container = get(guest, number, Container)
    return _simply(guest, container.link_name, operation, container.name, *arguments)


@function(CONTAINER, "[method]container.name")
def _name(guest: ComponentGuest, number: int) -> Any:
    return ok(get(guest, number, Container).name)


@function(CONTAINER, "[method]container.info", suspends=True)
def _info(guest: ComponentGuest, number: int) -> Later:
    return _in_container(guest, number, "container.info")


@function(CONTAINER, "[method]container.has-object", suspends=True)
def _has_object(guest: ComponentGuest, number: int, name: str) -> Later:
    return _in_container(guest, number, "container.has-object", name)


@function(CONTAINER, "[method]container.object-info", suspends=True)
def _object_info(guest: ComponentGuest, number: int, name: str) -> Later:
    return _in_container(guest, number, "container.object-info", name)


@function(CONTAINER, "[method]container.delete-object", suspends=True)
def _delete_object(guest: ComponentGuest, number: int, name: str) -> Later:
    return _in_container(guest, number, "container.delete-object", name)


@function(CONTAINER, "[method]container.delete-objects", suspends=True)
def _delete_objects(guest: ComponentGuest, number: int, names: list[str]) -> Later:
    container = get(guest, number, Container)

    async def work(host: HostCalls) -> None:
        for first in range(0, len(names), PAGE_NAMES):
            some = names[first : first + PAGE_NAMES]
            await container.execute(host, "container.delete-objects", some)

    return _later(guest, work)


@function(CONTAINER, "[method]container.clear", suspends=True)
def _clear(guest: ComponentGuest, number: int) -> Later:
    return _in_container(guest, number, "container.clear")


class ObjectNames:
    """The names of a container's objects, page by page."""

    __slots__ = ("container", "cursor", "held", "is_last")

    def __init__(self, container: Container) -> None:
        self.container = container
        self.cursor: str | None = None
        self.held: list[str] = []
        """Those of a page that the guest did not ask for."""
        self.is_last = False
        """Whether no page follows."""

    async def take(self, host: HostCalls, most: int) -> list[str]:
        """Take the next names, none only where none are left."""
        while not self.held and not self.is_last:
            page = await self.container.execute(
                host, "container.list-objects", self.cursor, min(most, PAGE_NAMES)
            )
            self.held, self.cursor = list(page["names"]), page["cursor"]
            self.is_last = self.cursor is None
        taken, self.held = self.held[:most], self.held[most:]
        return taken

    @property
    def is_over(self) -> bool:
        return self.is_last and not self.held


@function(CONTAINER, "[method]container.list-objects")
def _list_objects(guest: ComponentGuest, number: int) -> Any:
    container = get(guest, number, Container)
    return ok(guest.own("stream-object-names", ObjectNames(container)))


@function(CONTAINER, "[method]stream-object-names.read-stream-object-names", suspends=True)
def _read_names(guest: ComponentGuest, number: int, count: int) -> Later:
    names = get(guest, number, ObjectNames)

    async def work(host: HostCalls) -> list[Any]:
        found: list[str] = []
        chars, most = 0, min(count, NAMES_MAX)
        while len(found) < most and chars < NAMES_CHARS:
            if not (some := await names.take(host, most - len(found))):
                break
            found += some
            chars += sum(map(len, some))
        return [found, names.is_over]

    return _later(guest, work)


@function(CONTAINER, "[method]stream-object-names.skip-stream-object-names", suspends=True)
def _skip_names(guest: ComponentGuest, number: int, count: int) -> Later:
    names = get(guest, number, ObjectNames)

    async def work(host: HostCalls) -> list[Any]:
        skipped = 0
        while skipped < count:
            if not (some := await names.take(host, count - skipped)):
                break
            skipped += len(some)
        return [skipped, names.is_over]

    return _later(guest, work)


class IncomingValue:
    """An object, or a part of one, that a guest reads; the first bytes of it are there."""

    __slots__ = ("_at", "_host", "_name", "_of", "_version", "first", "left", "size")

    def __init__(self, host: HostCalls, container: Container, name: str, start: int) -> None:
        self._host = host
        self._of = container
        self._name = name
        self._at = start
        self._version: str | None = None
        self.first = b""
        self.size = 0
        """Of what the guest wanted, as much as there is."""
        self.left = 0
        """Bytes that are still to be fetched."""

    async def open(self, length: int) -> None:
        """Fetch the first part of so many bytes."""
        part = await self._read(min(length, PART_BYTES))
        self._version = part["version"]
        self.size = self.left = max(0, min(length, part["size"] - self._at))
        self.first = self._taken(part["data"])

    async def fetch(self) -> bytes:
        """Give the next part; empty where there is none.

        Raises:
            Conflict: the object was replaced since.
        """
        if not self.left:
            return b""
        part = await self._read(min(self.left, PART_BYTES))
        return self._taken(part["data"])

    async def _read(self, length: int) -> Any:
        arguments = (self._name, self._at, length, self._version)
        return await self._of.execute(self._host, "container.read-data", *arguments)

    def _taken(self, data: bytes) -> bytes:
        if len(data) != min(self.left, PART_BYTES):
            raise errors.ProviderError(
                f"the blob store gave {len(data)} bytes of {min(self.left, PART_BYTES)}"
            )
        self._at += len(data)
        self.left -= len(data)
        return data


class ObjectInflow(InputStream, Abandonable):
    """A value that a guest reads as a stream."""

    __slots__ = ("_arrival", "_failure", "_fetching", "_guest", "_value")

    def __init__(self, guest: ComponentGuest, value: IncomingValue) -> None:
        super().__init__(value.first)
        value.first = b""
        self._guest = guest
        self._value = value
        self._arrival = Arrival(self)
        self._failure: errors.LatticeError | None = None
        self._fetching: asyncio.Task[None] | None = None

    @property
    def arrival(self) -> Condition:
        return self._arrival

    @property
    def is_at_end(self) -> bool:
        return not self.is_held and not self._value.left and self._fetching is None

    @property
    def is_readable(self) -> bool:
        return self.is_held or self._failure is not None or self.is_at_end

    @property
    def failure(self) -> errors.LatticeError | None:
        return self._failure

    def begin_fetch(self) -> None:
        if not self.is_readable and self._fetching is None:
            self._fetching = self._guest.begin(self._fetch(), name="part of an object")

    async def _fetch(self) -> None:
        try:
            self.put(await self._value.fetch())
        except errors.LatticeError as error:
            self._failure = error
        finally:
            self._fetching = None
        self._arrival.wake()

    def abandon(self) -> None:
        if (task := self._fetching) is not None:
            # From whatever thread the guest runs on.
            task.get_loop().call_soon_threadsafe(task.cancel)


@function(CONTAINER, "[method]container.get-data", suspends=True)
def _get_data(guest: ComponentGuest, number: int, name: str, start: int, end: int) -> Any:
    container = get(guest, number, Container)
    if (refusal := _too_many_values(guest)) is not None:
        return refusal

    async def work(host: HostCalls) -> IncomingValue:
        value = IncomingValue(host, container, name, start)
        await value.open(max(0, end + 1 - start))
        return value

    return _later(guest, work, lambda value: ok(guest.own("incoming-value", value)))


def _too_many_values(guest: ComponentGuest) -> dict[str, Any] | None:
    kinds = (IncomingValue, ObjectInflow, OutgoingValue)
    count = sum(isinstance(each, kinds) for each in guest.resources.values())
    if count < VALUES_MAX:
        return None
    return err(
        f"overloaded: the call reads and writes {count} objects at a time, the limit: drop some"
    )


@function(TYPES, "[static]incoming-value.incoming-value-consume-sync", suspends=True)
def _consume_sync(guest: ComponentGuest, number: int) -> Any:
    value = _taken(guest, number)
    if value.size > SYNC_BYTES_MAX:
        large = errors.PayloadTooLarge("a value taken at once", value.size, SYNC_BYTES_MAX)
        return err(f"{large.code}: {large.text}: take it as a stream")

    async def work(_host: HostCalls) -> bytes:
        parts = [value.first]
        while part := await value.fetch():
            parts.append(part)
        return b"".join(parts)

    return _later(guest, work) if value.left else ok(value.first)


@function(TYPES, "[static]incoming-value.incoming-value-consume-async")
def _consume_async(guest: ComponentGuest, number: int) -> Any:
    return ok(guest.own("input-stream", ObjectInflow(guest, _taken(guest, number))))


def _taken(guest: ComponentGuest, number: int) -> IncomingValue:
    value = get(guest, number, IncomingValue)
    guest.take(number)
    return value


@function(TYPES, "[method]incoming-value.size")
def _size(guest: ComponentGuest, number: int) -> int:
    return get(guest, number, IncomingValue).size


class Upload:
    """An object on its way: in one call if it fits, else in parts, one after another."""

    __slots__ = ("_host", "_id", "_name", "_of", "_offset", "failure")

    def __init__(self, host: HostCalls, container: Container, name: str) -> None:
        self._host = host
        self._of = container
        self._name = name
        self._id: str | None = None
        """What names the write, once a part was sent."""
        self._offset = 0
        self.failure: errors.LatticeError | None = None
        """What a part failed with, and will, unless it arrives."""

    async def _execute(self, operation: str, *arguments: Any) -> Any:
        return await execute(self._host, self._of.link_name, operation, *arguments)

    async def append(self, part: bytes) -> None:
        """Send a part; what it fails with is kept."""
        self.failure = errors.Cancelled("the call ended while a part was on its way")
        try:
            await self._append(part)
        except errors.LatticeError as error:
            self.failure = error
        else:
            self.failure = None

    async def _append(self, part: bytes) -> None:
        if self._id is None:
            self._id = await self._of.execute(self._host, "container.begin-write", self._name)
        self._offset = await self._execute("container.append-data", self._id, self._offset, part)

    async def complete(self, rest: bytes) -> None:
        """Send what is left; now the object is there.

        Raises:
            LatticeError: it is not.
        """
        if self.failure is not None:
            raise self.failure
        if self._id is None:
            await self._of.execute(self._host, "container.write-data", self._name, rest)
            return
        if rest:
            await self._append(rest)
        await self._execute("container.commit-write", self._id)
        self._id = None

    async def abort(self) -> None:
        """Give it up, if it has begun and is not complete."""
        if self._id is None:
            return
        write, self._id = self._id, None
        try:
            await self._execute("container.abort-write", write)
        except errors.LatticeError as error:
            # The provider gives it up by itself in a while.
            self.log("debug", f"was given up, which the blob store did not hear: {error.text}")

    def log(self, level: str, text: str) -> None:
        self._host.log(level, f"the object {self._name} of the container {self._of.name} {text}")


class OutgoingValue(Condition, Abandonable):
    """An object that a guest writes; as a condition: there is room for more of it."""

    __slots__ = (
        "_content",
        "_guest",
        "_sending",
        "_upload",
        "is_closed",
        "is_over",
        "is_streamed",
    )

    def __init__(self, guest: ComponentGuest) -> None:
        super().__init__()
        self._guest = guest
        self._content = bytearray()
        """What was written and not sent."""
        self._upload: Upload | None = None
        self._sending: asyncio.Task[None] | None = None
        self.is_streamed = False
        """Whether the guest has had its stream."""
        self.is_closed = False
        """Whether the guest has dropped its stream."""
        self.is_over = False
        """Whether the guest has finished or dropped the value itself."""

    def room(self) -> int | None:
        upload = self._upload
        if self.is_over:
            return None
        if self._sending is not None:
            return 0
        if upload is not None and upload.failure is not None:
            return None
        left = PART_BYTES - len(self._content)
        if left >= BLOCKING_WRITE_BYTES:
            return left
        if upload is None:
            raise GuestFault(
                f"it wrote {len(self._content)} bytes of a value that write-data was not called"
                " for, and no more are kept"
            )
        return 0

    def write(self, content: bytes) -> None:
        self._content += content

    def attach(self, upload: Upload) -> bool:
        """Say where it goes; only once."""
        if self._upload is not None:
            return False
        self._upload = upload
        return True

    def is_true(self) -> bool:
        return self.room() != 0

    def prepare(self) -> None:
        # The guest is suspended, and nothing is added to the content.
        if self.room() == 0 and self._sending is None:
            self._sending = self._guest.begin(self._send(self._rest()), name="part of an object")

    async def _send(self, part: bytes) -> None:
        assert self._upload is not None, "what goes nowhere is never sent"
        try:
            await self._upload.append(part)
        finally:
            self._sending = None
        self.wake()

    def _rest(self) -> bytes:
        rest = bytes(self._content)
        self._content.clear()
        return rest

    async def finish(self) -> None:
        """Have the object be there.

        Raises:
            LatticeError: it is not.
        """
        self.is_over = True
        upload = self._upload
        if upload is None:
            raise errors.InvalidRequest("the value was finished, and never given to write-data")
        try:
            await self._sent()
            await upload.complete(self._rest())
        except BaseException:
            # The call may be over, and this cancelled.
            self._guest.tasks.spawn(upload.abort(), name="an object that is given up")
            raise

    async def _sent(self) -> None:
        """Return when no part is on its way."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    def abandon(self) -> None:
        self.is_over = True
        if self._upload is not None:
            self._guest.afterwards.append(self._finish_alone if self.is_closed else self._give_up)

    def leave(self) -> None:
        self.is_over = True
        if self._upload is not None:
            self._guest.afterwards.append(self._give_up)

    async def _finish_alone(self) -> None:
        assert self._upload is not None, "as abandon made sure"
        try:
            await self.finish()
        except errors.LatticeError as error:
            self._upload.log("error", f"was not written: {error.code}: {error.text}")

    async def _give_up(self) -> None:
        assert self._upload is not None, "as above"
        await self._sent()
        self._upload.log("warning", "was not written: the guest did not finish its value")
        await self._upload.abort()


class ObjectOutflow(OutputStream, Abandonable):
    """The stream that a guest writes a value through."""

    __slots__ = ("_value",)

    def __init__(self, value: OutgoingValue) -> None:
        self._value = value

    @property
    def vacancy(self) -> Condition:
        return self._value

    def room(self) -> int | None:
        return self._value.room()

    def write(self, _guest: ComponentGuest, content: bytes) -> None:
        self._value.write(content)

    def abandon(self) -> None:
        self._value.is_closed = True


@function(CONTAINER, "[method]container.write-data", suspends=True)
def _write_data(guest: ComponentGuest, number: int, name: str, value: int) -> Later:
    container, outgoing = get(guest, number, Container), get(guest, value, OutgoingValue)

    async def work(host: HostCalls) -> None:
        if not outgoing.attach(Upload(host, container, name)):
            raise errors.InvalidRequest("the value was given to write-data before")

    return _later(guest, work)


@function(TYPES, "[static]outgoing-value.new-outgoing-value")
def _new_value(guest: ComponentGuest) -> wit.Own:
    if (refusal := _too_many_values(guest)) is not None:
        raise GuestFault(refusal["err"])
    return guest.own("outgoing-value", OutgoingValue(guest))


@function(TYPES, "[method]outgoing-value.outgoing-value-write-body")
def _write_body(guest: ComponentGuest, number: int) -> Any:
    value = get(guest, number, OutgoingValue)
    if value.is_streamed:
        return err()
    value.is_streamed = True
    return ok(guest.own("output-stream", ObjectOutflow(value)))


@function(TYPES, "[static]outgoing-value.finish", suspends=True)
def _finish(guest: ComponentGuest, number: int) -> Later:
    value = get(guest, number, OutgoingValue)
    guest.take(number)

    async def work(_host: HostCalls) -> None:
        await value.finish()

    return _later(guest, work)
