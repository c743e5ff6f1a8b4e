"""The control interface's requests and replies: wasmCloud 1.x's JSON, checked where it comes in.

Sources: ``crates/control-interface/src/types`` of wasmCloud v1.9.2. Unknown fields are ignored and
absent optional ones omitted on the way out, as its own client does.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from lattice import errors, limits


class Wire(BaseModel):
    """A value with wasmCloud's field names; equality is by value."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


M = TypeVar("M", bound=BaseModel)

_config = TypeAdapter(dict[str, str])


def _none_as_empty(value: object) -> object:
    return {} if value is None else value


StringMap = Annotated[dict[str, str], BeforeValidator(_none_as_empty)]
"""Annotations, labels, constraints: absent, null and empty mean the same."""


class Link(Wire):
    """Source may call target, by this name, on these interfaces."""

    source_id: str
    target: str
    name: str = "default"
    wit_namespace: str
    wit_package: str
    interfaces: list[str] = []
    """Names of the package's interfaces; empty for all of them."""
    source_config: list[str] = []
    target_config: list[str] = []

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the link is looked up by: source, name, namespace, package."""
        return (self.source_id, self.name, self.wit_namespace, self.wit_package)


class DeleteLink(Wire):
    """A link to delete; ``target`` and ``interfaces`` narrow it down, which 1.x can't."""

    source_id: str
    name: str = "default"
    wit_namespace: str
    wit_package: str
    target: str | None = None
    interfaces: list[str] | None = None


class ComponentSpec(Wire):
    """Value of ``COMPONENT_{id}`` in the state bucket: the outbound links of one source."""

    url: str = ""
    links: list[Link] = []


class ComponentDescription(Wire):
    id: str
    image_ref: str
    name: str | None = None
    annotations: StringMap | None = None
    revision: int = 0
    max_instances: int
    limits: dict[str, str] | None = None


class ProviderDescription(Wire):
    id: str
    image_ref: str | None = None
    name: str | None = None
    annotations: StringMap | None = None
    revision: int = 0


class Host(Wire):
    """One host's answer to a ping."""

    id: str
    friendly_name: str
    labels: StringMap
    lattice: str
    uptime_seconds: int
    uptime_human: str | None = None
    version: str | None = None
    rpc_host: str | None = None
    ctl_host: str | None = None
    js_domain: str | None = None


class HostInventory(Wire):
    components: list[ComponentDescription] = Field(
        default=[], validation_alias=AliasChoices("components", "actors")
    )
    providers: list[ProviderDescription] = []
    host_id: str
    friendly_name: str
    labels: StringMap
    version: str
    uptime_human: str
    uptime_seconds: int


class StopHost(Wire):
    host_id: str = ""
    timeout: int | None = Field(default=None, ge=0)
    """Milliseconds for running calls to end."""


class ComponentAuction(Wire):
    component_ref: str
    component_id: str
    constraints: StringMap = {}


class ComponentBid(ComponentAuction):
    host_id: str


class ProviderAuction(Wire):
    provider_ref: str
    provider_id: str
    constraints: StringMap = {}


class ProviderBid(ProviderAuction):
    host_id: str


class ScaleComponent(Wire):
    component_id: str
    component_ref: str = ""
    count: int = Field(default=0, ge=0, le=2**32 - 1)
    """Concurrent instances at the most; 0 stops the actor."""
    annotations: StringMap = {}
    host_id: str = ""
    config: list[str] = []
    component_limits: dict[str, str] | None = None
    allow_update: bool = False


class StartProvider(Wire):
    provider_id: str
    provider_ref: str
    host_id: str = ""
    config: list[str] = []
    annotations: StringMap = {}


class StopProvider(Wire):
    provider_id: str = Field(validation_alias=AliasChoices("provider_id", "provider_ref"))
    host_id: str = ""


class ControlReply(BaseModel):
    """The one envelope of every control reply; ``code`` is ours, on failure only."""

    model_config = ConfigDict(extra="ignore")

    success: bool
    message: str = ""
    response: Any = None
    code: str | None = None

    def raise_for_failure(self) -> None:
        """Raise the error that a refusal stands for.

        Raises:
            LatticeError: of the reply's code; ``InvalidRequest`` when a 1.x host gave none.
        """
        if not self.success:
            cls = errors.BY_CODE.get(self.code or "", errors.InvalidRequest)
            raise cls.from_parts(self.message)


def accepted(response: object = None, message: str = "") -> bytes:
    """Encode a reply of success; ``response`` is a JSON value or absent."""
    reply: dict[str, Any] = {"success": True, "message": message}
    if response is not None:
        reply["response"] = response
    return json.dumps(reply, separators=(",", ":")).encode()


def refused(error: errors.LatticeError, *, message: str | None = None) -> bytes:
    """Encode a refusal; ``message`` replaces the error's text where clients read 1.x's."""
    reply = {
        "success": False,
        "message": error.text if message is None else message,
        "code": error.code,
    }
    return json.dumps(reply, separators=(",", ":")).encode()


def parse(model: type[M], data: bytes, *, what: str) -> M:
    """Decode strangers' JSON into a model.

    Raises:
        InvalidRequest: ``failed to deserialize {what}``, wasmCloud's words, and where it is wrong.
        PayloadTooLarge: over the limit for control requests.
    """
    if len(data) > limits.CONTROL_BYTES_MAX:
        raise errors.PayloadTooLarge(what, len(data), limits.CONTROL_BYTES_MAX)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise errors.InvalidRequest(f"failed to deserialize {what}: {first_fault(error)}") from None


def first_fault(error: ValidationError) -> str:
    """Where a value is wrong and how, without the value: it may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"


def parse_config(data: bytes) -> dict[str, str]:
    """Decode a named config.

    Raises:
        InvalidRequest: not a JSON object of strings; wasmCloud's words.
        PayloadTooLarge: over the limit for configs.
    """
    if len(data) > limits.CONFIG_BYTES_MAX:
        raise errors.PayloadTooLarge("config data", len(data), limits.CONFIG_BYTES_MAX)
    try:
        return _config.validate_json(data)
    except ValidationError:
        raise errors.InvalidRequest("config data should be a map of string -> string") from None


def uptime_human(seconds: int) -> str:
    """``1h 2m 3s``, as the Rust crate humantime prints it: its year has 365.25 days."""
    units = (
        ("year", 31_557_600),
        ("month", 2_630_016),
        ("day", 86_400),
        ("h", 3_600),
        ("m", 60),
        ("s", 1),
    )
    parts = []
    for unit, size in units:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}{'s' if count > 1 and len(unit) > 1 else ''}")
    return " ".join(parts) or "0s"


def merge_configs(configs: list[Mapping[str, str]]) -> dict[str, str]:
    """Merge named configs in order; a later one wins, as in wasmCloud 1.x."""
    return {key: value for config in configs for key, value in config.items()}
