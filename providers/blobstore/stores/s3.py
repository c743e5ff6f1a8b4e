"""A store in one bucket of S3, or of a server that speaks its protocol.

``{prefix}{namespace}/{container}/{object}`` are the keys. A container is there while anything is
below its key; an object of no bytes at that very key, as other tools make for a folder, is what
makes one that is empty. Objects larger than a part are multipart uploads: S3 shows them when they
are complete. A process that is killed leaves the parts of unfinished ones in the bucket, for its
rule on incomplete uploads.
"""

import asyncio
import functools
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore import exceptions

from lattice import errors, limits
from providers.blobstore.settings import S3Settings
from providers.blobstore.stores import (
    ContainerId,
    ObjectId,
    ObjectInfo,
    Page,
    Part,
    Writer,
    escaping,
    no_container,
    no_object,
    replaced,
)

PART_BYTES = 5 * limits.MIB
"""One part of a multipart upload; S3 takes no smaller ones, but for the last."""

KEY_BYTES_MAX = 1_024
"""S3's limit of a key."""

DELETES_MAX = 1_000
"""Keys that one request may delete; S3's limit."""

ATTEMPTS_MAX = 2
"""How often a request is sent in all when no answer came: doing it twice comes to the same."""

_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
_CHANGED = frozenset({"PreconditionFailed", "412"})
_BEYOND_END = frozenset({"InvalidRange", "416"})
_REFUSED = frozenset(
    {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
)
_AWAY = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "503"})


class S3Store:
    """Makes its client, and with it connections, when first used."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None

    @property
    def label(self) -> str:
        return f"S3 bucket {self._settings.bucket}{self._settings.where}"

    async def aclose(self) -> None:
        self._client = None
        await self._stack.aclose()

    async def ping(self) -> None:
        await self.request("head_bucket")

    async def create_container(self, container: ContainerId) -> None:
        await self.request("put_object", Key=self._folder(container), Body=b"")

    async def container_created_at_s(self, container: ContainerId) -> float | None:
        prefix = self._folder(container)
        found = await self.request("list_objects_v2", Prefix=prefix, MaxKeys=1)
        # What makes it a folder is the first in order.
        for entry in found.get("Contents", ()):
            return float(entry["LastModified"].timestamp())
        return None

    async def containers(self, namespace: str) -> list[str]:
        prefix = f"{self._settings.prefix}{namespace}/"
        names: set[str] = set()
        token: dict[str, str] = {}
        while True:
            page = await self.request("list_objects_v2", Prefix=prefix, Delimiter="/", **token)
            for entry in page.get("CommonPrefixes", ()):
                segment = entry["Prefix"].removeprefix(prefix).removesuffix("/")
                if (name := escaping.from_file_name(segment)) is not None:
                    names.add(name)
            if not page.get("IsTruncated"):
                return sorted(names)
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def delete_container(self, container: ContainerId) -> None:
        prefix = self._folder(container)
        while True:
            page = await self.request("list_objects_v2", Prefix=prefix, MaxKeys=DELETES_MAX)
            keys = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
            if not keys:
                return
            await self.request("delete_objects", Delete={"Objects": keys, "Quiet": True})

    async def objects(self, container: ContainerId, cursor: str | None, count: int) -> Page:
        prefix = self._folder(container)
        following = {} if cursor is None else {"StartAfter": f"{prefix}{cursor}"}
        found: list[ObjectInfo] = []
        # One more for the container itself, which comes first.
        extra = int(cursor is None)
        page = await self.request(
            "list_objects_v2", Prefix=prefix, MaxKeys=min(count + extra, DELETES_MAX), **following
        )
        entries = page.get("Contents", [])
        if not entries and await self.container_created_at_s(container) is None:
            raise no_container(container)
        for entry in entries:
            name = escaping.from_key(entry["Key"].removeprefix(prefix))
            if name:
                created_at_s = float(entry["LastModified"].timestamp())
                found.append(ObjectInfo(name, entry["Size"], created_at_s, entry["ETag"]))
        if len(found) > count:
            # No folder came first: somebody else made this container.
            found = found[:count]
            return Page(found, escaping.key(found[-1].name))
        last = entries[-1]["Key"].removeprefix(prefix) if entries else ""
        return Page(found, last if page.get("IsTruncated") else None)

    async def info(self, object_id: ObjectId) -> ObjectInfo | None:
        try:
            answer = await self.request("head_object", Key=self.key(object_id))
        except errors.NotFound:
            await self.check_container(object_id.container)
            return None
        return _info(object_id, answer, answer["ContentLength"])

    async def read(
        self, object_id: ObjectId, start: int, size: int, *, version: str | None = None
    ) -> Part:
        if size == 0:
            return await self._nothing(object_id, version)
        only = {} if version is None else {"IfMatch": version}
        span = f"bytes={start}-{start + size - 1}"
        try:
            answer = await self.request("get_object", Key=self.key(object_id), Range=span, **only)
            with self.translated():
                async with answer["Body"] as body:
                    data: bytes = await body.read()
        except _BeyondEndError:
            return await self._nothing(object_id, version)
        except errors.Conflict:
            raise replaced(object_id) from None
        except errors.NotFound:
            await self.check_container(object_id.container)
            raise no_object(object_id) from None
        # "bytes 0-9/100"; a server that knows no ranges sent all of it.
        total = answer.get("ContentRange", "").rpartition("/")[2]
        if not total.isdecimal():
            return Part(_info(object_id, answer, len(data)), data[start : start + size])
        return Part(_info(object_id, answer, int(total)), data)

    async def writer(self, object_id: ObjectId) -> Writer:
        self.key(object_id)
        await self.check_container(object_id.container)
        return _S3Writer(self, object_id)

    async def delete(self, object_id: ObjectId) -> None:
        await self.check_container(object_id.container)
        await self.request("delete_object", Key=self.key(object_id))

    async def copy(self, source: ObjectId, target: ObjectId) -> None:
        await self.check_container(target.container)
        if source == target:
            if await self.info(source) is None:
                raise no_object(source)
            return
        try:
            await self.request(
                "copy_object",
                Key=self.key(target),
                CopySource={"Bucket": self._settings.bucket, "Key": self.key(source)},
            )
        except errors.NotFound:
            await self.check_container(source.container)
            raise no_object(source) from None

    async def check_container(self, container: ContainerId) -> None:
        """
        Raises:
            NotFound: there is none.
        """
        if await self.container_created_at_s(container) is None:
            raise no_container(container)

    def key(self, object_id: ObjectId) -> str:
        """
        Raises:
            PayloadTooLarge: it would be too long for S3.
        """
        key = f"{self._folder(object_id.container)}{escaping.key(object_id.name)}"
        if (size_bytes := len(key.encode())) > KEY_BYTES_MAX:
            raise errors.PayloadTooLarge("key of the object in S3", size_bytes, KEY_BYTES_MAX)
        return key

    async def request(self, operation: str, **fields: Any) -> Any:
        """Send one request about the bucket.

        Raises:
            NotFound: there is no such key.
            Conflict: the object is not the one named.
            Denied, ProviderError, Unavailable: as ``Store``.
        """
        client = await self._opened()
        with self.translated():
            return await getattr(client, operation)(Bucket=self._settings.bucket, **fields)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The library's errors in the lattice's words."""
        try:
            yield
        except exceptions.ClientError as error:
            raise self._said(error) from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise errors.Denied(
                f"{self.label}: there are no credentials; set access_key_id and secret_access_key"
            ) from error
        except (exceptions.HTTPClientError, exceptions.ConnectionError, OSError) as error:
            # Their texts name the address, and nothing that is secret.
            raise errors.Unavailable(f"{self.label} does not answer: {error}") from error
        except exceptions.BotoCoreError as error:
            raise errors.ProviderError(f"{self.label}: {error}") from error

    def _said(self, error: exceptions.ClientError) -> errors.LatticeError:
        said = error.response.get("Error", {})
        code = str(said.get("Code", ""))
        text = f"{self.label}: {code} {said.get('Message', '')}".rstrip()
        if code == "NoSuchBucket":
            return errors.ProviderError(f"{self.label} is not there; make it first")
        if code in _ABSENT:
            return errors.NotFound(text)
        if code in _CHANGED:
            return errors.Conflict(text)
        if code in _BEYOND_END:
            return _BeyondEndError(text)
        if code == "KeyTooLongError":
            # Servers that keep files have limits of their own.
            return errors.InvalidRequest(text)
        if code in _REFUSED:
            return errors.Denied(text)
        if code in _AWAY:
            return errors.Unavailable(text)
        return errors.ProviderError(text)

    async def _nothing(self, object_id: ObjectId, version: str | None) -> Part:
        """What is beyond an object's end, which a range of S3 can't express."""
        found = await self.info(object_id)
        if found is None:
            raise no_object(object_id)
        if version not in (None, found.version):
            raise replaced(object_id)
        return Part(found, b"")

    def _folder(self, container: ContainerId) -> str:
        name = escaping.file_name(container.name)
        return f"{self._settings.prefix}{container.namespace}/{name}/"

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                settings = self._settings
                config = AioConfig(
                    connect_timeout=settings.connect_timeout_s,
                    read_timeout=settings.response_timeout_s,
                    max_pool_connections=settings.connections_max,
                    retries={"total_max_attempts": ATTEMPTS_MAX, "mode": "standard"},
                    # Servers of others don't know the checksums that AWS adds of late.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
                )
                session = get_session()
                loader = await asyncio.to_thread(_descriptions)
                session.register_component("data_loader", loader)
                with self.translated():
                    self._client = await self._stack.enter_async_context(
                        session.create_client(
                            "s3",
                            region_name=settings.region,
                            endpoint_url=settings.endpoint_url,
                            aws_access_key_id=settings.access_key_id,
                            aws_secret_access_key=settings.secret_access_key,
                            config=config,
                        )
                    )
        return self._client


class _BeyondEndError(errors.InvalidRequest):
    """A range that begins where the object ends, or later."""


class _S3Writer:
    def __init__(self, store: S3Store, object_id: ObjectId) -> None:
        self._store = store
        self._object_id = object_id
        self._key = store.key(object_id)
        self._waiting = bytearray()
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._size = 0

    async def append(self, data: bytes) -> None:
        self._waiting += data
        self._size += len(data)
        while len(self._waiting) > PART_BYTES:
            await self._upload(bytes(self._waiting[:PART_BYTES]))
            del self._waiting[:PART_BYTES]

    async def commit(self) -> ObjectInfo:
        await self._store.check_container(self._object_id.container)
        if self._upload_id is None:
            await self._store.request("put_object", Key=self._key, Body=bytes(self._waiting))
        else:
            await self._upload(bytes(self._waiting))
            await self._store.request(
                "complete_multipart_upload",
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
            )
            self._upload_id = None
        self._waiting.clear()
        found = await self._store.info(self._object_id)
        # Somebody may have removed it already: it was there all the same.
        return found or ObjectInfo(self._object_id.name, self._size, 0.0, "")

    async def abort(self) -> None:
        self._waiting.clear()
        if (upload_id := self._upload_id) is not None:
            self._upload_id = None
            try:
                await self._store.request(
                    "abort_multipart_upload", Key=self._key, UploadId=upload_id
                )
            except (errors.NotFound, errors.ProviderError):
                # It is complete, or gone already.
                return

    async def _upload(self, part: bytes) -> None:
        if self._upload_id is None:
            answer = await self._store.request("create_multipart_upload", Key=self._key)
            self._upload_id = answer["UploadId"]
        number = len(self._parts) + 1
        answer = await self._store.request(
            "upload_part", Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=part
        )
        self._parts.append({"ETag": answer["ETag"], "PartNumber": number})


@functools.cache
def _descriptions() -> Any:
    """What AWS's library reads to know S3: megabytes, which it would read on the event loop.

    One for all stores: it remembers what it has read, and knows nothing of credentials.
    """
    loader = get_session().get_component("data_loader")
    for name in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", name)
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data(name)
    return loader


def _info(object_id: ObjectId, answer: Any, size: int) -> ObjectInfo:
    created_at_s = float(answer["LastModified"].timestamp())
    return ObjectInfo(object_id.name, size, created_at_s, answer["ETag"])
