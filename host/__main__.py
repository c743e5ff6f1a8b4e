"""``lattice-host``: one host in the foreground, until it is asked to stop."""

import asyncio
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from host.runtime import Host
from host.settings import HostSettings
from lattice import errors
from lattice import log as logging

log = structlog.get_logger()

PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "RUST_LOG")
"""What provider processes see of our environment, beside ``OTEL_*``."""

YOUNG_OBJECTS_MAX = 10_000
"""Objects made before the collector looks for cycles among them: a few hundred calls' worth."""

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)

USAGE_STATUS = 2
FAILURE_STATUS = 1


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            _refuse("labels", f"{pair!r} is not of the form KEY=VALUE")
        labels[key] = value
    return labels


def run(
    nats: Annotated[
        str | None,
        typer.Option("--nats", help="NATS servers, joined by commas.", show_default=False),
    ] = None,
    lattice: Annotated[
        str | None, typer.Option("--lattice", "-x", help="Lattice to join.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Friendly name; made up when not given.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for auctions to match on; may be repeated.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Cache of compiled modules.", show_default=False)
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="NATS credentials file.", show_default=False)
    ] = None,
    host_seed: Annotated[
        str | None,
        typer.Option(
            envvar="LATTICE_HOST_SEED", help="nkey seed SN… of the host; new at each start."
        ),
    ] = None,
    allow_file_load: Annotated[
        bool, typer.Option(help="Let control requests start modules from this host's files.")
    ] = False,
    allow_latest: Annotated[
        bool, typer.Option(help="Let control requests start what a registry calls latest.")
    ] = False,
    allowed_insecure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGISTRY", help="Speak to this registry without TLS; may be repeated."
        ),
    ] = None,
    reconcile: Annotated[
        bool | None,
        typer.Option(
            "--reconcile/--no-reconcile",
            help="Take part in keeping deployed apps as they shall be.",
            show_default="yes",
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.", show_default=False)
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="text or json.", show_default=False)
    ] = None,
) -> None:
    """Run one host in the foreground. SIGTERM or Ctrl-C drains it, a second one ends it at
    once.

    Everything else is set by environment variables: LATTICE_MEMORY_BYTES, LATTICE_CPU_TIME_S,
    LATTICE_INSTANCES_MAX, LATTICE_MAILBOX_CALLS, LATTICE_HEARTBEAT_S, LATTICE_FUEL,
    LATTICE_REPLICAS, LATTICE_TRUSTED_ISSUERS, LATTICE_CTL_TOPIC_PREFIX, LATTICE_COMPONENT_AUCTION,
    LATTICE_PROVIDER_AUCTION; of registries
    LATTICE_OCI_REGISTRY, LATTICE_OCI_USER, LATTICE_OCI_PASSWORD, LATTICE_OCI_CA,
    LATTICE_DOCKER_CONFIG, LATTICE_ARTEFACT_CACHE_BYTES.
    """
    given = {
        "nats_url": nats,
        "lattice": lattice,
        "name": name,
        "labels": _labels(label or []) or None,
        "data_dir": data_dir,
        "nats_credentials": credentials,
        "host_seed": host_seed,
        "allow_file_load": allow_file_load or None,
        "allow_latest": allow_latest or None,
        "allowed_insecure": ",".join(allowed_insecure or []) or None,
        "reconcile": reconcile,
        "log_level": log_level,
        "log_format": log_format,
    }
    try:
        settings = HostSettings(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        _refuse(".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))
    except SettingsError as error:
        # An environment variable that should hold JSON, and does not.
        _refuse("LATTICE_*", str(error))
    sys.exit(_serve(settings))


def _refuse(setting: str, text: str) -> NoReturn:
    sys.stderr.write(f"error: setting {setting}: {text}\n")
    sys.exit(USAGE_STATUS)


def _serve(settings: HostSettings) -> int:
    # Before the engine exists: enabled later it would take every guest's trap for a crash.
    faulthandler.enable()
    logging.configure(level=settings.log_level, form=settings.log_format)
    log.info("settings", **settings.model_dump(mode="json", exclude={"host_seed", "nats_url"}))
    try:
        _run(_until_signalled(settings))
    except errors.LatticeError as error:
        sys.stderr.write(f"error: {error.text} [{error.code}]\n")
        return FAILURE_STATUS
    return 0


def _settle_garbage() -> None:
    """Take what was imported, and lives for ever, out of the collector's sight.

    And let it look at young objects less often: with the defaults it took a twelfth of the time of
    a host that serves HTTP.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 20)


async def _until_signalled(settings: HostSettings) -> None:
    environment = {
        key: value
        for key, value in os.environ.items()
        if key in PASSED_ON or key.startswith("OTEL_")
    }
    host = Host(settings, provider_environment=environment)
    _settle_garbage()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        host.request_stop()
        for number in ENDING_SIGNALS:
            # Whoever asks again wants it gone, whatever it waits for; its children die with it.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, stop)
    await host.run()


def _run(main: Coroutine[Any, Any, None]) -> None:
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        import uvloop  # noqa: PLC0415 - an option: there is none for every platform

        factory = uvloop.new_event_loop
    except ImportError:
        pass
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


def main() -> None:
    """Entry point of ``lattice-host``."""
    typer.run(run)


if __name__ == "__main__":
    main()
