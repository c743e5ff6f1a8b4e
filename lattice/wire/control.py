"""The control interface's requests and replies: wasmCloud 1.x's JSON, checked where it comes in.

Sources: ``crates/control-interface/src/types`` of wasmCloud v1.9.2. Unknown fields are ignored and
absent optional ones omitted on the way out, as its own client does. Fields stand in its order.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from lattice import errors, limits


class Wire(BaseModel):
    """A value with wasmCloud's field names; equality is by value."""

    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True, populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


M = TypeVar("M", bound=BaseModel)

_config = TypeAdapter(dict[str, str], config=ConfigDict(defer_build=True))


def _none_as_empty(value: object) -> object:
    return {} if value is None else value


StringMap = Annotated[dict[str, str], BeforeValidator(_none_as_empty)]
"""Annotations, labels, constraints: absent, null and empty mean the same."""


def _check_size(annotations: dict[str, str]) -> dict[str, str]:
    if sum(len(key) + len(value) for key, value in annotations.items()) > limits.ANNOTATIONS_CHARS:
        raise ValueError(f"more than {limits.ANNOTATIONS_CHARS} characters in all")
    return annotations


Annotations = Annotated[StringMap, AfterValidator(_check_size)]
"""What a request asks to be remembered of an actor or a provider, and repeated in events."""

Reference = Annotated[str, Field(max_length=limits.REFERENCE_CHARS)]


LinkKey = tuple[str, str, str, str, str]
"""Source, name, namespace, package, target: no two links share all of them."""


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

    @property
    def order(self) -> LinkKey:
        """Where the link stands in lists."""
        return (*self.key, self.target)


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
    """What was started under that id first; empty while only links are known."""
    links: list[Link] = []


class LinkPage(Wire):
    """Body of a request for links that takes them page by page; 1.x asks with an empty one."""

    after: LinkKey | None = None
    """``Link.order`` of the last one of the page before."""


class InventoryPage(Wire):
    """Body of a request for an inventory that takes components page by page; as ``LinkPage``."""

    after: str = ""
    """Id of the last component of the page before."""


class Throttling(Wire):
    """Why and for how long a component that keeps trapping is not called; our own."""

    traps: int
    """Calls in a row that a trap or a limit ended."""
    backoff_ms: int
    """Milliseconds until a call is let through again."""
    reason: str
    """What the last of them was told."""


class ComponentDescription(Wire):
    id: str
    image_ref: str
    name: str | None = None
    annotations: StringMap | None = None
    revision: int = 0
    max_instances: int
    limits: dict[str, str] | None = None
    throttled: Throttling | None = None
    """Our own; 1.x's clients pass over it."""

    @model_serializer(mode="wrap")
    def _with_limits(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The one optional field that 1.x says even when there is nothing to say."""
        fields: dict[str, Any] = serialize(self)
        return {**fields, "limits": self.limits}


class ProviderCrashes(Wire):
    """That a provider ended lately, and what is done about it; our own."""

    state: str
    """``running``, ``restarting``, or ``given_up``: then it starts again only when told to."""
    count: int
    """Crashes within the window of its host's restart policy."""
    backoff_ms: int = 0
    """Milliseconds until it is started again, while that is waited for."""
    reason: str
    """How the last copy ended."""


class ProviderDescription(Wire):
    id: str
    image_ref: str | None = None
    name: str | None = None
    revision: int = 0
    annotations: StringMap | None = None
    crashes: ProviderCrashes | None = None
    """Our own; 1.x's clients pass over it."""

    @property
    def is_given_up(self) -> bool:
        """Whether its host has ceased to start it again."""
        return self.crashes is not None and self.crashes.state == "given_up"


class Host(Wire):
    """One host's answer to a ping."""

    rpc_host: str | None = None
    ctl_host: str | None = None
    friendly_name: str
    id: str
    js_domain: str | None = None
    labels: StringMap
    lattice: str
    uptime_human: str | None = None
    uptime_seconds: int
    version: str | None = None


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
    component_ref: Reference
    component_id: str
    constraints: Annotations = {}


class ComponentBid(ComponentAuction):
    host_id: str


class ProviderAuction(Wire):
    provider_ref: Reference
    provider_id: str
    constraints: Annotations = {}


class ProviderBid(ProviderAuction):
    host_id: str


class ScaleComponent(Wire):
    component_ref: Reference = ""
    component_id: str
    annotations: Annotations = {}
    count: int = Field(default=0, ge=0, le=2**32 - 1)
    """Concurrent instances at the most; 0 stops the actor."""
    component_limits: Annotated[dict[str, str], AfterValidator(_check_size)] | None = None
    host_id: str = ""
    config: list[str] = []
    allow_update: bool = False
    """Whether a running actor whose image is another takes the new one."""


class UpdateComponent(Wire):
    """Another image for an actor that runs; everything else about it stays."""

    component_id: str = ""
    annotations: Annotations = {}
    host_id: str = ""
    new_component_ref: Reference = ""


class StartProvider(Wire):
    provider_id: str
    provider_ref: Reference = ""
    host_id: str = ""
    config: list[str] = []
    annotations: Annotations = {}


class StopProvider(Wire):
    host_id: str = ""
    provider_id: str = Field(validation_alias=AliasChoices("provider_id", "provider_ref"))


class PutLabel(Wire):
    key: str
    value: str


class DeleteLabel(Wire):
    key: str


class RegistryCredential(Wire):
    """How to log in to a registry; its secrets are in no log line and no error text."""

    password: str | None = Field(default=None, repr=False)
    token: str | None = Field(default=None, repr=False)
    username: str | None = None
    registry_type: str = Field(default="oci", alias="registryType")


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


class StoredClaims(Wire):
    """Value of ``CLAIMS_{subject}`` in the state bucket: what a signed artefact says of itself."""

    kind: Literal["component", "provider"] = Field(default="component", exclude=True)
    """Not stored: only a component's claims have a ``call_alias``."""
    call_alias: str = ""
    issuer: str = Field(validation_alias=AliasChoices("issuer", "iss"))
    name: str = ""
    revision: str = Field(default="0", validation_alias=AliasChoices("revision", "rev"))
    subject: str = Field(validation_alias=AliasChoices("subject", "sub"))
    tags: Annotated[list[str], BeforeValidator(_split)] = []
    version: str = ""
    config_schema: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _tell_kinds_apart(cls, fields: object) -> object:
        if not isinstance(fields, dict) or "kind" in fields:
            return fields
        return {**fields, "kind": "component" if "call_alias" in fields else "provider"}

    def to_json(self) -> dict[str, Any]:
        absent = {"config_schema"} if self.kind == "component" else {"call_alias", "tags"}
        return self.model_dump(mode="json", exclude_none=True, exclude=absent)

    def to_map(self) -> dict[str, str]:
        """The flat form in which ``claims.get`` lists them; 1.x says some things twice."""
        twice = {
            "iss": self.issuer,
            "issuer": self.issuer,
            "name": self.name,
            "rev": self.revision,
            "revision": self.revision,
            "sub": self.subject,
            "subject": self.subject,
        }
        if self.kind == "component":
            more = {"call_alias": self.call_alias, "tags": ",".join(self.tags)}
        else:
            more = {"config_schema": self.config_schema or ""}
        return dict(sorted((twice | more | {"version": self.version}).items()))


_registries = TypeAdapter(dict[str, RegistryCredential], config=ConfigDict(defer_build=True))


class ControlReply(BaseModel):
    """The one envelope of every control reply.

    Ours beside 1.x's: ``code``, on failure only, and ``next``, where a list goes on.
    """

    model_config = ConfigDict(defer_build=True, extra="ignore")

    success: bool
    message: str = ""
    response: Any = None
    code: str | None = None
    next: Any = None

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
    return _dump(reply).encode()


@dataclass(frozen=True, slots=True)
class InventoryPart:
    """A host's inventory, or as much of it as had room, as JSON."""

    text: str
    last: str
    """Id of the last component in it."""
    left_out: int
    """Components behind that one."""


class InventoryWriter:
    """Writes an inventory component by component: thousands at once would hold the event loop."""

    def __init__(self, rest: HostInventory, *, bytes_max: int | None = None) -> None:
        """``rest`` is all but the components, of which so many bytes have room."""
        self._rest = rest
        self._bytes_left = bytes_max
        self._texts: list[str] = []
        self._last = ""

    def add(self, component: ComponentDescription) -> bool:
        """Write a component, unless there is no room; the first one always has some."""
        text = component.model_dump_json(exclude_none=True, by_alias=True)
        if self._bytes_left is not None:
            self._bytes_left -= len(text)
            if self._texts and self._bytes_left < 0:
                return False
        self._texts.append(text)
        self._last = component.id
        return True

    def finish(self, *, of: int) -> InventoryPart:
        """What was written, ``of`` so many."""
        rest = self._rest.to_json()
        del rest["components"]
        text = f'{{"components":[{",".join(self._texts)}],{_dump(rest)[1:]}'
        return InventoryPart(text, self._last, of - len(self._texts))


def list_inventory(part: InventoryPart) -> bytes:
    """Encode a reply with an inventory, or one page of it and where it goes on."""
    goes_on = f',"next":{json.dumps(part.last)}' if part.left_out else ""
    return f'{{"success":true,"message":"","response":{part.text}{goes_on}}}'.encode()


def list_links(links: Iterable[Link], page: LinkPage | None = None) -> bytes:
    """Encode a reply with the links in order: all of them, or one page and where it goes on."""
    rest = sorted(links, key=lambda link: link.order)
    if page is not None and page.after is not None:
        rest = [link for link in rest if link.order > page.after]
    parts: list[str] = []
    size = 0
    for link in rest:
        if page is not None and size >= limits.LINK_PAGE_BYTES:
            break
        parts.append(link.model_dump_json())
        size += len(parts[-1])
    goes_on = f',"next":{json.dumps(rest[len(parts) - 1].order)}' if len(parts) < len(rest) else ""
    return f'{{"success":true,"message":"","response":[{",".join(parts)}]{goes_on}}}'.encode()


def refused(error: errors.LatticeError, *, message: str | None = None) -> bytes:
    """Encode a refusal; ``message`` replaces the error's text where clients read 1.x's."""
    text = error.text if message is None else message
    reply = {
        "success": False,
        # It may repeat what was sent.
        "message": text[: limits.ERROR_TEXT_CHARS],
        "code": error.code,
    }
    return _dump(reply).encode()


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


def parse_registries(data: bytes) -> dict[str, RegistryCredential]:
    """Decode credentials by registry.

    Raises:
        InvalidRequest, PayloadTooLarge: as ``parse``.
    """
    what = "registries put command"
    if len(data) > limits.CONTROL_BYTES_MAX:
        raise errors.PayloadTooLarge(what, len(data), limits.CONTROL_BYTES_MAX)
    try:
        return _registries.validate_json(data)
    except ValidationError as error:
        raise errors.InvalidRequest(f"failed to deserialize {what}: {first_fault(error)}") from None


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


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
