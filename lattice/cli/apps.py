"""Apps: put, deployed, followed, undeployed, deleted; and what a manifest would change."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, TypeVar

import typer
from rich.console import RenderableType

from lattice import errors, manifest
from lattice.cli import completion, following, hosts, manifests, output
from lattice.cli.connection import Connection, connect
from lattice.cli.manifests import Source
from lattice.cli.options import Options, command
from lattice.cli.output import Failed, Result
from lattice.control.apps import AppClient
from lattice.manifest import Finding, writing
from lattice.wire.apps import PlannedStep, Status, StatusType, Summary

T = TypeVar("T")

INVALID = 2
"""Exit status of ``validate`` for a manifest with errors, as of any request that can't be right."""


def _complete(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of apps, with their descriptions."""

    async def ask(lattice: Connection) -> list[tuple[str, str]]:
        client = AppClient(lattice.bus, lattice.lattice, timeout_s=completion.TIMEOUT_S)
        return [(one.name, one.description or "") for one in await client.summaries()]

    return completion.offered(ctx, incomplete, ask)


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Name of an app that was put; or a manifest: a file, an http(s) address, - for"
        " standard input.",
        autocompletion=_complete,
    ),
]
AppArgument = Annotated[
    str,
    typer.Argument(
        metavar="APP",
        help="Name of the app, or a file with its manifest.",
        autocompletion=_complete,
    ),
]
VersionArgument = Annotated[
    str | None,
    typer.Argument(metavar="VERSION", help="Version of the app.", show_default="the one put last"),
]
WaitOption = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Return when it is done, or when it is taken on."),
]
WaitTimeoutOption = Annotated[
    int,
    typer.Option(
        "--wait-timeout-ms", min=1, metavar="MS", help="How long to wait until it is done."
    ),
]


class Taken(errors.AlreadyExists):
    """Another manifest is stored as that version."""

    remedy = "give it another version in metadata.annotations.version, or say deploy --replace"


def register(group: typer.Typer) -> None:
    command(group, "list", example="lattice app list --output json")(list_apps)
    command(group, "get", example="lattice app get hello v0.1.0")(get)
    command(group, "status", example="lattice app status hello")(status)
    command(group, "history", example="lattice app history hello")(history)
    command(group, "put", example="lattice app put app.yaml")(put)
    command(group, "plan", example="lattice app plan app.yaml")(plan)
    command(group, "deploy", example="lattice app deploy app.yaml")(deploy)
    command(group, "undeploy", example="lattice app undeploy hello")(undeploy)
    command(group, "delete", example="lattice app delete hello v0.1.0")(delete)
    command(group, "validate", example="lattice app validate app.yaml")(validate)


async def list_apps(options: Options, *, watch: hosts.WatchOption = None) -> Result | None:
    """List the apps of the lattice, deployed or not.

    With the version that is deployed and how far it is. An app is known from the time its first
    version is put until its last one is deleted.
    """
    async with connect(options) as connection:
        client = _client(connection)

        async def look() -> Result:
            return list_result(await client.summaries())

        return await hosts.once_or_watch(look, options, watch)


async def get(
    options: Options,
    app: Annotated[
        str | None,
        typer.Argument(
            metavar="APP",
            help="Name of the app; all of them are listed if absent.",
            autocompletion=_complete,
        ),
    ] = None,
    version: VersionArgument = None,
    *,
    watch: hosts.WatchOption = None,
) -> Result | None:
    """Show the manifest of an app, or list all apps.

    The version that was put last, unless another is named; in YAML, as a manifest is written.
    """
    if app is None:
        return await list_apps(options, watch=watch)
    async with connect(options) as connection:
        client = _client(connection)

        async def look() -> Result:
            document = await client.get(app, version)
            return Result(
                fields={"application": document}, text=[writing.to_yaml(document).rstrip()]
            )

        return await hosts.once_or_watch(look, options, watch)


async def status(
    options: Options, app: AppArgument, *, watch: hosts.WatchOption = None
) -> Result | None:
    """Show how far an app is, and each of its parts.

    Deployed means that everything runs as the manifest says; failed, that something can not, and
    what it says of itself.
    """
    name = await manifests.find_name(app)
    async with connect(options) as connection:
        client = _client(connection)

        async def look() -> Result:
            return status_result(name, await client.status(name))

        return await hosts.once_or_watch(look, options, watch)


async def history(options: Options, app: AppArgument) -> Result:
    """List the versions of an app, oldest first, and which one is deployed.

    Any of them can be deployed again: that is how to go back by hand.
    """
    name = await manifests.find_name(app)
    async with connect(options) as connection:
        versions = await _client(connection).versions(name)
    rows = [(one.version, str(one.deployed).lower()) for one in versions]
    return Result(
        fields={"revisions": [one.to_json() for one in versions]},
        text=[output.table(("Version", "Deployed"), rows)],
    )


async def put(
    options: Options,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A manifest: a file, an http(s) address, - for standard input."
        ),
    ] = manifests.STDIN,
) -> Result:
    """Store a manifest as a version of its app, without deploying it.

    Files that it names as images are uploaded. The same manifest may be put again.
    """
    found = await _manifest(source)
    found.check()
    async with connect(options) as connection:
        name, version = await _put(connection, found)
    return Result(
        fields={"deployed": False, "model_name": name, "model_version": version},
        text=[f'Put application "{name}", version "{version}"'],
    )


async def plan(options: Options, source: SourceArgument, version: VersionArgument = None) -> Result:
    """Print exactly what deploying would change now, and why; nothing is changed.

    One line for each start, scale, update, stop, link and config, in the order in which they would
    be done.
    """
    found = await manifests.find(source)
    async with connect(options) as connection:
        client = _client(connection)
        if isinstance(found, Source):
            _only_named(version)
            found.check()
            answer = await client.plan(manifest=manifests.with_digests(found))
        else:
            answer = await client.plan(app=found, version=version)
        friendly = await _friendly_names(connection, answer.steps)
    rows = [
        (
            step.action,
            step.entity,
            friendly.get(step.host, step.host),
            hosts.with_short_digests(step.reason),
        )
        for step in answer.steps
    ]
    notes = [answer.message] if rows and answer.message else []
    if answer.left_out:
        notes.append(f"and {answer.left_out} more steps")
    return Result(
        fields={
            "message": answer.message,
            "steps": [step.to_json() for step in answer.steps],
            "left_out": answer.left_out,
        },
        text=[output.table(("Action", "What", "Host", "Why"), rows)]
        if rows
        else ["Nothing would change"],
        note="\n".join(notes),
    )


async def deploy(
    options: Options,
    source: SourceArgument,
    version: VersionArgument = None,
    *,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="If another manifest is stored as this version, take its place."
        ),
    ] = False,
    wait: WaitOption = True,
    wait_timeout_ms: WaitTimeoutOption = following.WAIT_TIMEOUT_MS,
) -> Result:
    """Have an app run as its manifest says, replacing the version that runs step by step.

    A manifest is put first, unless it is there already; files that it names as images are uploaded.
    The command shows how it gets on, and ends when everything runs, or with status 1 when it
    failed; a version that fails is rolled back to the one before.
    """
    found = await manifests.find(source)
    async with connect(options) as connection:
        client = _client(connection)
        if isinstance(found, Source):
            _only_named(version)
            found.check()
            name, version = await _put(connection, found, replace=replace)
        else:
            name = found
        before = await _status_or_none(client, name)
        async with client.statuses(name) as stream:
            answer = await client.deploy(name, version)
            deployed = answer.version or version or ""
            fields = {"deployed": True, "model_name": name, "model_version": deployed}
            if not wait:
                text = f'Deploying application "{name}", version "{deployed}"'
                return Result(fields=fields, text=[text])
            end = await following.follow(
                client,
                stream,
                name,
                ends=following.DEPLOYED,
                before=before,
                version=deployed or None,
                timeout_ms=wait_timeout_ms,
            )
    if end.status.type is StatusType.FAILED:
        raise Failed(f"deploying {name} {deployed} failed: {reason(name, end)}")
    return Result(
        fields={**fields, "status": end.to_json()},
        text=[f'Deployed application "{name}", version "{deployed}"'],
    )


async def undeploy(
    options: Options,
    app: Annotated[
        str | None,
        typer.Argument(
            metavar="APP",
            help="Name of the app, or a file with its manifest.",
            autocompletion=_complete,
        ),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Undeploy every app.")] = False,
    wait: WaitOption = True,
    wait_timeout_ms: WaitTimeoutOption = following.WAIT_TIMEOUT_MS,
) -> Result:
    """Have nothing of an app run any more; its versions stay stored.

    Its components, providers, links and configs go. The command ends when they have.
    """
    if (app is None) != every:
        raise errors.InvalidRequest("name the app, or say --all")
    name = None if app is None else await manifests.find_name(app)
    async with connect(options) as connection:
        client = _client(connection)
        found = (
            [one.name for one in await client.summaries() if one.deployed_version is not None]
            if name is None
            else [name]
        )

        async def end_one(one: str) -> None:
            async with client.statuses(one) as stream:
                await client.undeploy(one)
                if wait:
                    await following.follow(
                        client,
                        stream,
                        one,
                        ends=following.UNDEPLOYED,
                        before=None,
                        timeout_ms=wait_timeout_ms,
                    )

        await _each(found, end_one)
    match found:
        case []:
            text = "No applications undeployed"
        case [one]:
            text = f"{'Undeployed' if wait else 'Undeploying'} application: {one}"
        case _:
            text = f"{'Undeployed' if wait else 'Undeploying'} [{len(found)}] applications"
    return Result(
        fields={"results": text, "undeployed_application_names": found},
        text=[text],
    )


async def delete(
    options: Options,
    app: Annotated[
        str | None,
        typer.Argument(
            metavar="APP",
            help="Name of the app, or a file with the manifest of the version to delete.",
            autocompletion=_complete,
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION", help="Version of the app.", show_default="all of them"),
    ] = None,
    *,
    all_undeployed: Annotated[
        bool, typer.Option("--all-undeployed", help="Delete every app that is not deployed.")
    ] = False,
) -> Result:
    """Forget a version of an app, or all of them; what is deployed of it is undeployed.

    With --all-undeployed every app goes that is not deployed.
    """
    if (app is None) != all_undeployed:
        raise errors.InvalidRequest("name the app, or say --all-undeployed")
    if app is not None and isinstance(found := await manifests.find(app), Source):
        _only_named(version)
        app, version = found.manifest.name, found.manifest.version
    async with connect(options) as connection:
        client = _client(connection)
        wanted = (
            [(one.name, None) for one in await client.summaries() if one.deployed_version is None]
            if app is None
            else [(app, version)]
        )
        deleted: list[dict[str, str | None]] = []

        async def delete_one(one: tuple[str, str | None]) -> None:
            answer = await client.delete(*one)
            if answer.result == "deleted":
                deleted.append({"model_name": one[0], "version": one[1]})

        await _each(wanted, delete_one)
    match wanted:
        case []:
            text = "No applications deleted"
        case [(name, _)]:
            text = f"{'Deleted' if deleted else 'Already deleted'} application: {name}"
        case _:
            text = f"Deleted [{len(deleted)}] applications"
    return Result(
        fields={
            "result": text,
            "deleted": app is None or bool(deleted),
            "deleted_applications": deleted,
        },
        text=[text],
    )


async def validate(
    _options: Options,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A manifest: a file, an http(s) address, - for standard input."
        ),
    ],
) -> Result:
    """Say what is wrong with a manifest, without asking anybody; status 2 if it can't be deployed.

    Errors keep it from being put, warnings do not.
    """
    found = await _manifest(source)
    valid = not found.errors
    text = [f"{finding.level}: {manifests.spelled(finding)}" for finding in found.findings]
    return Result(
        fields={
            "valid": valid,
            "warnings": [_finding(finding) for finding in found.warnings],
            "errors": [_finding(finding) for finding in found.errors],
        },
        text=[*text, "manifest is valid" if valid else "manifest is not valid"],
        status=0 if valid else INVALID,
    )


def list_result(summaries: list[Summary]) -> Result:
    rows = [
        (
            one.name,
            one.deployed_version or "N/A",
            str(one.detailed_status.status.type).capitalize(),
            one.description or "",
        )
        for one in summaries
    ]
    return Result(
        fields={"applications": [one.to_json() for one in summaries]},
        text=[output.table(("Name", "Deployed Version", "Status", "Description"), rows)],
        note="" if summaries else "there are no apps; deploy one with: lattice app deploy",
    )


def status_result(app: str, status: Status) -> Result:
    version = f"@{status.version}" if status.version else ""
    message = f": {status.status.message}" if status.status.message else ""
    text: list[RenderableType] = [
        output.visible(f"{app}{version} - {str(status.status.type).capitalize()}{message}")
    ]
    if status.scalers:
        rows = [
            (
                following.short_name(app, scaler),
                scaler.kind,
                str(scaler.status.type).capitalize(),
                scaler.status.message,
            )
            for scaler in status.scalers
        ]
        text.append(output.table(("Name", "Kind", "Status", "Message"), rows))
    return Result(fields={"status": status.to_json()}, text=text)


def reason(app: str, status: Status) -> str:
    """Why an app failed: what it says of itself, and its parts that failed as well."""
    told = [
        f"{following.short_name(app, scaler)}: {scaler.status.message}"
        for scaler in status.scalers
        if scaler.status.type is StatusType.FAILED and scaler.status.message
    ]
    own = status.status.message
    return "; ".join([*([own] if own else []), *(one for one in told if one not in own)]) or (
        "no reason was given"
    )


def _client(connection: Connection) -> AppClient:
    return AppClient(connection.bus, connection.lattice, timeout_s=connection.timeout_s)


def _finding(finding: Finding) -> dict[str, str]:
    """A finding in wadm's JSON, and where it is."""
    return {
        "level": finding.level.capitalize(),
        "msg": finding.message,
        "path": finding.path,
    }


def _only_named(version: str | None) -> None:
    if version is not None:
        raise errors.InvalidRequest(
            "a VERSION goes with the name of an app: a manifest has its own"
        )


async def _manifest(text: str) -> Source:
    """The manifest that an argument means, which has to be one.

    Raises:
        NotFound: it could only be the name of an app.
        InvalidRequest, PayloadTooLarge: as ``manifests.find``.
    """
    if isinstance(found := await manifests.find(text), str):
        raise errors.NotFound(f"there is no file {text}")
    return found


async def _put(connection: Connection, source: Source, *, replace: bool = False) -> tuple[str, str]:
    """Store a manifest, unless just this is what is stored, and give its name and version.

    Raises:
        AlreadyExists: something else is stored as that version.
    """
    client = _client(connection)
    text = await manifests.with_uploads(connection, source)
    name, version = source.manifest.name, source.manifest.version
    try:
        answer = await client.put(text)
    except errors.AlreadyExists as error:
        if version is None:
            raise
        stored = await client.get(name, version)
        if manifest.parse(writing.to_yaml(stored).encode()) == manifest.parse(text.encode()):
            return name, version
        if not replace:
            raise Taken(f"{error.text}, and is another manifest") from None
        await client.delete(name, version)
        answer = await client.put(text)
    return answer.name or name, answer.current_version


async def _status_or_none(client: AppClient, app: str) -> Status | None:
    try:
        return await client.status(app)
    except errors.NotFound:
        return None


async def _friendly_names(connection: Connection, steps: list[PlannedStep]) -> dict[str, str]:
    """Names by host id, as far as the steps need them and hosts answer."""
    if not any(step.host for step in steps):
        return {}
    return {host.id: host.friendly_name for host in await connection.control.hosts()}


async def _each(items: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Do it for every one, whatever becomes of the others.

    Raises:
        LatticeError: what the first that failed raised.
    """
    outcomes = await asyncio.gather(*(act(item) for item in items), return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in failures[1:]:
        if isinstance(failure, errors.LatticeError):
            output.note(failure.text)
    if failures:
        raise failures[0]
