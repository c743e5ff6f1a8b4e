"""Builds and parses every NATS subject: the one place that knows how they are spelled.

The control plane's subjects are wasmCloud 1.x's; the calls are ours. Tokens that come in from
outside are checked in ``lattice.names`` before they get here, or below where they are parsed.
"""

from dataclasses import dataclass

from lattice import errors, names

CONTROL_PREFIX = "wasmbus.ctl"
"""wasmCloud's default control topic prefix."""

_APPS = "wadm.api"
"""wadm's default topic prefix."""

_APP_KEY = "app."
_STATUS_KEY = "status."
_COMPONENT_KEY = "COMPONENT_"
_CLAIMS_KEY = "CLAIMS_"
_OLDER_KEYS = ("LINKDEF_", "REFMAP_")
"""Kinds of keys that wasmCloud 0.x left in the state bucket."""


def control(lattice: str, *tokens: str, prefix: str = CONTROL_PREFIX) -> str:
    """``wasmbus.ctl.v1.{lattice}.{noun}.{verb}[.{id}]``."""
    return ".".join((prefix, "v1", lattice, *tokens))


@dataclass(frozen=True, slots=True)
class ControlSubject:
    """A control request's subject, taken apart."""

    noun: str
    verb: str
    name: str | None
    """Host id or config name, for the subjects that have one."""


def parse_control(lattice: str, subject: str, *, prefix: str = CONTROL_PREFIX) -> ControlSubject:
    """Take apart what arrived on a control subscription.

    Raises:
        InvalidRequest: ``unsupported subject``, wasmCloud's own words.
    """
    start = control(lattice, "", prefix=prefix)
    tokens = subject.removeprefix(start).split(".") if subject.startswith(start) else []
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


def figures(lattice: str, host: str | None = None) -> str:
    """Asks a host what it does and what its actors' calls came to; without one, all of them."""
    return ".".join(("lattice.figures", lattice, *([host] if host else [])))


def diagnostics(lattice: str, host: str | None = None) -> str:
    """Asks a host how it is itself; without one, all of them."""
    return ".".join(("lattice.diagnostics", lattice, *([host] if host else [])))


def logs_wanted(lattice: str) -> str:
    """Where those who follow logs say so, again and again: hosts publish lines for nobody else."""
    return f"lattice.logs.{lattice}.want"


def logs_recent(lattice: str) -> str:
    """Asks all hosts for the lines that they keep."""
    return f"lattice.logs.{lattice}.recent"


def log_lines(lattice: str, host: str, actor: str) -> str:
    """An actor's log lines on one host, while somebody follows them."""
    return f"lattice.log.{lattice}.{host}.{actor}"


def call(lattice: str, target: str, source: str) -> str:
    """The source comes last, so that a NATS permission can pin who may say who they are."""
    return f"wasmbus.rpc.{lattice}.{target}.call.{source}"


def calls(lattice: str, target: str) -> str:
    """What a target subscribes to, in queue group ``queue_group``."""
    return f"wasmbus.rpc.{lattice}.{target}.call.*"


def copy_call(lattice: str, target: str, host: str, source: str) -> str:
    """A call to the one copy of a provider that is on a host; the source last, as in ``call``."""
    return f"wasmbus.rpc.{lattice}.{target}.copy.{host}.{source}"


def copy_calls(lattice: str, target: str, host: str) -> str:
    """What a copy of a provider subscribes to, in no queue group."""
    return copy_call(lattice, target, host, "*")


def caller_of(subject: str) -> str:
    """The source that a call's subject names."""
    return subject.rpartition(".")[2]


def target_of(subject: str) -> str:
    """The target that a call's subject names."""
    return subject.split(".")[3]


def cancel(lattice: str, target: str, source: str) -> str:
    """Where a caller calls off what it asked of a target; the source last, as in ``call``."""
    return f"wasmbus.rpc.{lattice}.{target}.cancel.{source}"


def cancels(lattice: str, target: str = "*") -> str:
    """What a process subscribes to, in no queue group: who executes a call, NATS has decided."""
    return cancel(lattice, target, "*")


def parse_cancel(lattice: str, subject: str) -> tuple[str, str]:
    """The target and the source that a subject of ``cancels`` names.

    Raises:
        InvalidRequest: it is none of those.
    """
    match subject.removeprefix(f"wasmbus.rpc.{lattice}.").split("."):
        case [target, "cancel", source]:
            return target, source
        case _:
            raise errors.InvalidRequest(f"no subject of a cancellation: {subject}")


def stream(lattice: str, owner: str, token: str) -> str:
    """Where a stream is read from who has its bytes: the call's source, or its target."""
    return f"wasmbus.rpc.{lattice}.{owner}.stream.{token}"


def departure(lattice: str, target: str = "*") -> str:
    """Where it is told that a copy of a target is gone; what a caller subscribes to without one."""
    return f"lattice.gone.{lattice}.{target}"


def departed(subject: str) -> str:
    """The target that a subject of ``departure`` names."""
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


def link_put(lattice: str, provider_id: str, host: str | None = None) -> str:
    """With a host, what only the copy on that host hears (not in wasmCloud 1.x)."""
    return provider(lattice, provider_id, "linkdefs", "put", *([host] if host else []))


def link_delete(lattice: str, provider_id: str, host: str | None = None) -> str:
    """With a host, as ``link_put``."""
    return provider(lattice, provider_id, "linkdefs", "del", *([host] if host else []))


def provider_health(lattice: str, provider_id: str, host: str | None = None) -> str:
    """With a host, the question that only the copy on that host answers (not in wasmCloud 1.x)."""
    return provider(lattice, provider_id, "health", *([host] if host else []))


def provider_shutdown(lattice: str, provider_id: str) -> str:
    return provider(lattice, provider_id, "default", "shutdown")


def config_update(lattice: str, provider_id: str, host: str | None = None) -> str:
    """With a host, as ``link_put``."""
    return provider(lattice, provider_id, "config", "update", *([host] if host else []))


def app_api(lattice: str, operation: str, app: str | None = None) -> str:
    """The subject of a request to wadm's API: ``wadm.api.{lattice}.model.{operation}[.{app}]``."""
    return ".".join((_APPS, lattice, "model", operation, *([app] if app is not None else [])))


def app_apis(lattice: str) -> str:
    """What a server of wadm's API for one lattice subscribes to."""
    return f"{_APPS}.{lattice}.>"


@dataclass(frozen=True, slots=True)
class AppSubject:
    """A request to wadm's API, by its subject."""

    operation: str
    app: str | None
    """Name of the app, for the operations that have one; whether it can be one is not checked."""


def parse_app_api(lattice: str, subject: str) -> AppSubject:
    """Take apart what arrived on ``app_apis``.

    Raises:
        InvalidRequest: ``Unsupported subject``, wadm's own words.
    """
    start = f"{_APPS}.{lattice}."
    tokens = subject.removeprefix(start).split(".") if subject.startswith(start) else []
    match tokens:
        case ["model", operation]:
            return AppSubject(operation, None)
        case ["model", operation, app]:
            return AppSubject(operation, app)
        case _:
            raise errors.InvalidRequest(f"Unsupported subject: {subject}")


def app_status(lattice: str, app: str) -> str:
    """Where an app's status is published when it changes, as wadm does."""
    return f"wadm.status.{lattice}.{app}"


def app_plan(lattice: str) -> str:
    """Asks what deploying would change; wadm knows nothing like it."""
    return f"lattice.app.{lattice}.plan"


def reconciler_beat(lattice: str) -> str:
    """Where the reconciler that leads says so, twice a second."""
    return f"lattice.reconciler.{lattice}.beat"


def reconciler_state(lattice: str) -> str:
    """Asks the reconciler that leads who it is and what it does."""
    return f"lattice.reconciler.{lattice}.state"


def reconciler_holder(lattice: str, holder: str) -> str:
    """Asks one process whether it leads; nobody listens there once it is gone."""
    return f"lattice.reconciler.{lattice}.holder.{holder}"


def app_bucket(lattice: str) -> str:
    """Apps and their statuses, by ``app_key`` and ``app_status_key``."""
    return f"LATTICEAPPS_{names.parse_lattice(lattice)}"


def reconciler_bucket(lattice: str) -> str:
    """What a reconciler that leads must not forget."""
    return f"LATTICERECONCILER_{names.parse_lattice(lattice)}"


def lease_bucket(lattice: str) -> str:
    """Who leads; what is in it dies of age."""
    return f"LATTICELEASES_{names.parse_lattice(lattice)}"


def app_key(app: str) -> str:
    return f"{_APP_KEY}{app}"


def app_of(key: str) -> str | None:
    """The app whose record a key of its bucket holds; None for other kinds of keys."""
    return key.removeprefix(_APP_KEY) if key.startswith(_APP_KEY) else None


def app_status_key(app: str) -> str:
    return f"{_STATUS_KEY}{app}"


def app_of_status(key: str) -> str | None:
    """As ``app_of``, for statuses."""
    return key.removeprefix(_STATUS_KEY) if key.startswith(_STATUS_KEY) else None


def state_bucket(lattice: str) -> str:
    return f"LATTICEDATA_{names.parse_lattice(lattice)}"


def config_bucket(lattice: str) -> str:
    return f"CONFIGDATA_{names.parse_lattice(lattice)}"


def artefact_bucket(lattice: str) -> str:
    return f"LATTICEARTEFACTS_{names.parse_lattice(lattice)}"


def payload_bucket(lattice: str) -> str:
    return f"LATTICEPAYLOADS_{names.parse_lattice(lattice)}"


def outcome_bucket(lattice: str) -> str:
    """What came of calls with idempotency keys."""
    return f"LATTICEOUTCOMES_{names.parse_lattice(lattice)}"


def duty_bucket(lattice: str) -> str:
    """Which copy of a provider does what only one may do; what is in it dies of age."""
    return f"LATTICEDUTIES_{names.parse_lattice(lattice)}"


def component_key(source: str) -> str:
    """Key of a source's links in the state bucket."""
    return _COMPONENT_KEY + source


def component_of(key: str) -> str | None:
    """The source whose links a key of the state bucket holds; None for other kinds of keys."""
    source = key.removeprefix(_COMPONENT_KEY)
    return source if source not in ("", key) else None


def claims_key(subject: str) -> str:
    """Key of a signed artefact's claims in the state bucket, by its public key."""
    return _CLAIMS_KEY + subject


def is_claims_key(key: str) -> bool:
    return key.startswith(_CLAIMS_KEY)


def is_older_key(key: str) -> bool:
    """Whether a key of the state bucket is one that only wasmCloud 0.x wrote."""
    return key.startswith(_OLDER_KEYS)
