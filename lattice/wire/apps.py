"""wadm's API for apps: its JSON, byte for byte, and the one request of ours beside it, ``plan``.

Source: ``crates/wadm-types/src/api.rs`` of wadm 0.21.1. Fields stand in its order; unknown ones are
ignored, as its clients do. What is not there is null on the wire where wadm says null, and
absent where it says nothing: ``_SILENT`` lists the latter. What is not in wadm at all is said only
when there is something to say, so that an answer of ours is one of wadm's with more in it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
)

from lattice import errors, limits
from lattice.wire.control import first_fault

CONTENT_TYPE = "Content-Type"
"""Header of a ``put`` that says what the manifest is written in; wadm guesses when it is absent."""

JSON_TYPE = "application/json"
YAML_TYPE = "application/yaml"

LATEST = "latest"
"""Names the version that was put last; no version may be called so."""

ANSWER_BYTES_MAX = 8 * limits.MIB
"""Largest answer that is read: more than any server sends at once, ``max_payload`` being 1 MiB."""

T = TypeVar("T")


class Api(BaseModel):
    """A value with wadm's field names; equality is by value."""

    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True, populate_by_name=True)

    _SILENT: ClassVar[frozenset[str]] = frozenset()
    """Names on the wire of the fields that are absent when there is nothing in them."""

    def encode(self) -> bytes:
        return self.model_dump_json(by_alias=True).encode()

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        return {
            name: value
            for name, value in fields.items()
            if name not in self._SILENT or value not in (None, "", 0, [], {})
        }


class StatusType(StrEnum):
    """How far an app is, or a part of one."""

    WAITING = "waiting"
    UNDEPLOYED = "undeployed"
    RECONCILING = "reconciling"
    DEPLOYED = "deployed"
    FAILED = "failed"
    UNHEALTHY = "unhealthy"


_OLDER_STATUSES = {"compensating": StatusType.RECONCILING, "ready": StatusType.DEPLOYED}


def _today(status: object) -> object:
    return _OLDER_STATUSES.get(status, status) if isinstance(status, str) else status


AnyStatusType = Annotated[StatusType, BeforeValidator(_today)]
"""Two of the statuses had other names in older versions."""


class StatusInfo(Api):
    _SILENT = frozenset({"message"})

    type: AnyStatusType = StatusType.UNDEPLOYED
    message: str = ""


class ScalerStatus(Api):
    """How far one part of an app is: an actor's or a provider's spread, a link, a config."""

    id: str = ""
    kind: str = ""
    """``SpreadScaler``, ``LinkScaler`` and the like: names of wadm's classes."""
    name: str = ""
    status: StatusInfo


class Status(Api):
    """How far an app is, and each of its parts."""

    _SILENT = frozenset({"scalers"})

    status: StatusInfo
    scalers: list[ScalerStatus] = []
    version: str = ""
    """Deprecated in wadm, and always empty there; ours says the version in force."""
    components: list[dict[str, Any]] = []
    """Deprecated in wadm, and always empty."""


class Answer(Api):
    """What answers have in common."""

    code: str | None = None
    """Not in wadm, and said last: on failure, which error of our list."""

    @model_serializer(mode="wrap")
    def _leave_out(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = super()._leave_out(serialize)
        code = fields.pop("code", None)
        return fields if code is None else {**fields, "code": code}


class GetResult(StrEnum):
    ERROR = "error"
    SUCCESS = "success"
    NOT_FOUND = "notfound"


class PutResult(StrEnum):
    ERROR = "error"
    CREATED = "created"
    NEW_VERSION = "newversion"


class DeleteResult(StrEnum):
    DELETED = "deleted"
    ERROR = "error"
    NOOP = "noop"


class DeployResult(StrEnum):
    ERROR = "error"
    ACKNOWLEDGED = "acknowledged"
    NOT_FOUND = "notfound"


class StatusResult(StrEnum):
    ERROR = "error"
    OK = "ok"
    NOT_FOUND = "notfound"


class ErrorAnswer(Answer):
    """A failure in the only words that an answer to every request has."""

    result: Literal["error"] = "error"
    message: str = ""


class GetRequest(Api):
    """Body of ``get.{name}``; an empty body asks for the version that was put last."""

    _SILENT = frozenset({"version"})

    version: str | None = None


class GetAnswer(Answer):
    _SILENT = frozenset({"manifest"})

    result: GetResult
    message: str = ""
    manifest: dict[str, Any] | None = None


class Summary(Api):
    """One app of a list."""

    name: str
    version: str
    """The one that was put last."""
    description: str | None = None
    deployed_version: str | None = None
    detailed_status: Status = Field(default_factory=lambda: Status(status=StatusInfo()))
    status: AnyStatusType
    """``detailed_status`` in the words of clients before 0.14, which don't know ``waiting``."""
    status_message: str | None = None

    @classmethod
    def of(
        cls,
        name: str,
        version: str,
        status: Status,
        *,
        description: str | None = None,
        deployed_version: str | None = None,
    ) -> "Summary":
        """A summary that says the status in the newer and in the older words."""
        kind = status.status.type
        return cls(
            name=name,
            version=version,
            description=description,
            deployed_version=deployed_version,
            detailed_status=status,
            status=StatusType.UNDEPLOYED if kind is StatusType.WAITING else kind,
            status_message=status.status.message,
        )


class ListAnswer(Answer):
    """Answer to ``get`` without a name; ``list``, which is older, is answered by the bare list."""

    _SILENT = frozenset({"served_by"})

    result: GetResult
    message: str = ""
    models: list[Summary] = []
    served_by: str | None = None
    """Not in wadm: which of our reconcilers answers. An answer without it is a real wadm's."""


class PutAnswer(Answer):
    result: PutResult
    total_versions: int = 0
    current_version: str = ""
    message: str = ""
    name: str = ""


class VersionInfo(Api):
    version: str
    deployed: bool


class VersionsAnswer(Answer):
    result: GetResult
    message: str = ""
    versions: list[VersionInfo] = []
    """Oldest first."""


class DeleteRequest(Api):
    """Body of ``del.{name}``; without a version, and with an empty body, all versions go."""

    version: str | None = None


class DeleteAnswer(Answer):
    result: DeleteResult
    message: str = ""
    undeploy: bool = False
    """Whether what was deleted was deployed, and so ends."""


class DeployRequest(Api):
    """Body of ``deploy.{name}``; without a version, and with an empty body, the latest one."""

    version: str | None = None


class DeployAnswer(Answer):
    """Answer to ``deploy`` and to ``undeploy``."""

    result: DeployResult
    message: str = ""
    name: str = ""
    version: str | None = None


class UndeployRequest(Api):
    """Body of ``undeploy.{name}``: nothing yet, here as in wadm."""


class StatusAnswer(Answer):
    _SILENT = frozenset({"status"})

    result: StatusResult
    message: str = ""
    status: Status | None = None


class PlanRequest(Api):
    """What would deploying do: a manifest's text, or a version that was put (none: the latest)."""

    _SILENT = frozenset({"manifest", "name", "version"})

    manifest: str | None = None
    name: str | None = None
    version: str | None = None


class PlannedStep(Api):
    """One change, and why."""

    action: str
    """``start``, ``scale``, ``update``, ``stop``, ``put`` or ``delete``."""
    entity: str
    """What is changed: ``component hello-counter``, ``link a -> b``."""
    host: str = ""
    """Id of the host it is changed on; empty for what belongs to the lattice as a whole."""
    reason: str
    """A sentence."""


class PlanAnswer(Answer):
    _SILENT = frozenset({"left_out"})

    result: GetResult
    message: str = ""
    steps: list[PlannedStep] = []
    left_out: int = 0
    """Steps that there was no room for."""


_summaries = TypeAdapter(list[Summary], config=ConfigDict(defer_build=True))


def encode_summaries(summaries: Sequence[Summary]) -> bytes:
    """Encode the answer to ``list``: it has no envelope."""
    return _summaries.dump_json(list(summaries), by_alias=True)


def parse(kind: type[T], data: bytes, *, what: str) -> T:
    """Decode strangers' JSON.

    Raises:
        InvalidRequest: not that kind of value; the text says where it is wrong.
        PayloadTooLarge: over ``ANSWER_BYTES_MAX``.
    """
    if len(data) > ANSWER_BYTES_MAX:
        raise errors.PayloadTooLarge(what, len(data), ANSWER_BYTES_MAX)
    try:
        return TypeAdapter(kind).validate_json(data)
    except ValidationError as error:
        raise errors.InvalidRequest(f"Unable to parse {what}: {first_fault(error)}") from None
