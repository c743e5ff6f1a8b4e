"""Builds and parses every NATS subject: the one place that knows how they are spelled.

The control plane's subjects are wasmCloud 1.x's; the calls are ours. Tokens that come in from
outside are checked in ``lattice.names`` before they get here, or below where they are parsed.
"""

from dataclasses import dataclass

from lattice import errors, names

CONTROL_PREFIX = "wasmbus.ctl"
"""wasmCloud's default control topic prefix."""

_COMPONENT_KEY = "COMPONENT_"


def control(lattice: str, *tokens: str) -> str:
    """``wasmbus.ctl.v1.{lattice}.{noun}.{verb}[.{id}]``."""
    return ".".join((CONTROL_PREFIX, "v1", lattice, *tokens))


@dataclass(frozen=True, slots=True)
class ControlSubject:
    """A control request's subject, taken apart."""

    noun: str
    verb: str
    name: str | None
    """Host id or config name, for the subjects that have one."""


def parse_control(lattice: str, subject: str) -> ControlSubject:
    """Take apart what arrived on a control subscription.

    Raises:
        InvalidRequest: ``unsupported subject``, wasmCloud's own words.
    """
    prefix = control(lattice, "")
    tokens = subject.removeprefix(prefix).split(".") if subject.startswith(prefix) else []
    match tokens:
        case [noun, verb]:
            return ControlSubject(noun, verb, None)
        case [noun, verb, name]:
            return ControlSubject(noun, verb, name)
        case _:
            raise errors.InvalidRequest("unsupported subject")


def event(lattice: str, name: str) -> str:
    """An event of wasmCloud's own family."""
    return f"wasmbus.evt.{lattice}.{name}"


def own_event(lattice: str, name: str) -> str:
    """An event that wasmCloud 1.x does not know; kept where its consumers don't look."""
    return f"lattice.evt.{lattice}.{name}"


def beat(lattice: str, host: str) -> str:
    return f"lattice.beat.{lattice}.{host}"


def call(lattice: str, target: str, source: str) -> str:
    """The source comes last, so that a NATS permission can pin who may say who they are."""
    return f"wasmbus.rpc.{lattice}.{target}.call.{source}"


def calls(lattice: str, target: str) -> str:
    """What a target subscribes to, in queue group ``queue_group``."""
    return f"wasmbus.rpc.{lattice}.{target}.call.*"


def caller_of(subject: str) -> str:
    """The source that a call's subject names."""
    return subject.rpartition(".")[2]


def queue_group(lattice: str, target: str) -> str:
    return f"{lattice}.{target}"


def door(lattice: str, target: str, operation: str) -> str:
    """The plain door, for NATS clients without an SDK. Operations may have dots of their own."""
    return f"wasmbus.msg.{lattice}.{target}.{operation}"


def doors(lattice: str, target: str) -> str:
    return f"wasmbus.msg.{lattice}.{target}.>"


def operation_of(lattice: str, target: str, subject: str) -> str:
    """The operation that a message through the plain door asks for."""
    return subject.removeprefix(f"wasmbus.msg.{lattice}.{target}.")


def provider(lattice: str, provider_id: str, *tokens: str) -> str:
    """A provider's management subjects, as in wasmCloud 1.x."""
    return ".".join(("wasmbus.rpc", lattice, provider_id, *tokens))


def link_put(lattice: str, provider_id: str) -> str:
    return provider(lattice, provider_id, "linkdefs", "put")


def link_delete(lattice: str, provider_id: str) -> str:
    return provider(lattice, provider_id, "linkdefs", "del")


def provider_health(lattice: str, provider_id: str, host: str | None = None) -> str:
    """With a host, the question that only the copy on that host answers (not in wasmCloud 1.x)."""
    return provider(lattice, provider_id, "health", *([host] if host else []))


def provider_shutdown(lattice: str, provider_id: str) -> str:
    return provider(lattice, provider_id, "default", "shutdown")


def config_update(lattice: str, provider_id: str) -> str:
    return provider(lattice, provider_id, "config", "update")


def state_bucket(lattice: str) -> str:
    return f"LATTICEDATA_{names.parse_lattice(lattice)}"


def config_bucket(lattice: str) -> str:
    return f"CONFIGDATA_{names.parse_lattice(lattice)}"


def artefact_bucket(lattice: str) -> str:
    return f"LATTICEARTEFACTS_{names.parse_lattice(lattice)}"


def payload_bucket(lattice: str) -> str:
    return f"LATTICEPAYLOADS_{names.parse_lattice(lattice)}"


def component_key(source: str) -> str:
    """Key of a source's links in the state bucket."""
    return _COMPONENT_KEY + source


def component_of(key: str) -> str | None:
    """The source whose links a key of the state bucket holds; None for other kinds of keys."""
    source = key.removeprefix(_COMPONENT_KEY)
    return source if source not in ("", key) else None
