"""Artefacts and OCI registries: push, pull. Neither needs a lattice."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lattice import errors, limits
from lattice.cli import files, output
from lattice.cli.options import Options, command, pairs
from lattice.cli.output import Result
from lattice.registry import credentials, manifests, references
from lattice.registry.credentials import Credentials, RegistryAccess
from lattice.registry.references import Reference

if TYPE_CHECKING:
    from lattice.registry.client import Repository

CONFIG_BYTES_MAX = manifests.MANIFEST_BYTES_MAX
"""An artefact's config is read by registries and people; it is no place for content."""

SUFFIXES = {manifests.Kind.WASM: ".wasm", manifests.Kind.ARCHIVE: ".par.gz"}

UserOption = Annotated[
    str | None,
    typer.Option(
        "--user",
        "-u",
        envvar=["LATTICE_REG_USER", "WASH_REG_USER"],
        metavar="NAME",
        help="User at the registry; when absent, whom docker login knows, or nobody.",
    ),
]
PasswordOption = Annotated[
    str | None,
    typer.Option(
        "--password",
        "-p",
        envvar=["LATTICE_REG_PASSWORD", "WASH_REG_PASSWORD"],
        metavar="TEXT",
        help="Password at the registry; better in the environment than among the arguments.",
    ),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        "-r",
        envvar=["LATTICE_REG_URL", "WASH_REG_URL"],
        metavar="HOST",
        help="Registry, when the URL names none.",
    ),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Speak to the registry without TLS.")
]
LatestOption = Annotated[
    bool, typer.Option("--allow-latest", help="Take the tag latest, said or unsaid.")
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="Certificates of an authority to trust besides the system's."
    ),
]


def register(group: typer.Typer, *, panel: str) -> None:
    command(
        group, "push", example="lattice push ghcr.io/me/counter:0.1.0 counter.wasm", panel=panel
    )(push)
    command(group, "pull", example="lattice pull ghcr.io/me/counter:0.1.0", panel=panel)(pull)


async def push(
    options: Options,
    url: Annotated[str, typer.Argument(metavar="URL", help="REGISTRY/NAME:TAG to push to.")],
    artefact: Annotated[
        Path, typer.Argument(metavar="FILE", help="A module, a component or a provider archive.")
    ],
    *,
    annotation: Annotated[
        list[str] | None,
        typer.Option(
            "--annotation",
            "--annotations",
            "-a",
            metavar="KEY=VALUE",
            help="Kept with the artefact; may be repeated.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Config to push with an archive."),
    ] = None,
    user: UserOption = None,
    password: PasswordOption = None,
    registry: RegistryOption = None,
    insecure: InsecureOption = False,
    allow_latest: LatestOption = False,
    ca: CaOption = None,
    monolithic_push: Annotated[bool, typer.Option(hidden=True)] = False,  # noqa: ARG001 - it always is
) -> Result:
    """Push an actor or a provider archive to an OCI registry, and print its digest.

    Needs no lattice. Whom docker login knows at that registry is who pushes, unless --user says
    otherwise.
    """
    reference = _reference(url, registry)
    if reference.digest is not None:
        raise errors.InvalidRequest("push to a tag; the digest follows from what is pushed")
    content = files.read(artefact, limits.PROVIDER_BYTES_MAX)
    prepared = manifests.compose(
        content,
        config=files.read(config, CONFIG_BYTES_MAX) if config is not None else None,
        annotations=pairs(annotation or [], "annotation"),
    )
    access = _access(reference, user, password, insecure=insecure, latest=allow_latest, ca=ca)
    with output.progress(f"pushing {artefact.name}") as on_progress:
        async with _connect(options, access, reference) as repository:
            digest = await repository.push(reference, prepared, on_progress=on_progress)
    pinned = f"{reference.registry}/{reference.name}@{digest}"
    fields = {"url": str(reference), "digest": digest, "reference": pinned}
    if reference.tag:
        fields["tag"] = reference.tag
    return Result(fields=fields, text=[f"Successfully pushed {reference}", f"digest: {digest}"])


async def pull(
    options: Options,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="REGISTRY/NAME:TAG, or REGISTRY/NAME@sha256:….")
    ],
    *,
    destination: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write it.",
            show_default="NAME.wasm or NAME.par.gz here",
        ),
    ] = None,
    digest: Annotated[
        str | None,
        typer.Option("--digest", "-d", metavar="SHA256", help="Digest that it must have."),
    ] = None,
    user: UserOption = None,
    password: PasswordOption = None,
    registry: RegistryOption = None,
    insecure: InsecureOption = False,
    allow_latest: LatestOption = False,
    ca: CaOption = None,
) -> Result:
    """Pull an actor or a provider from an OCI registry into a file; what it says is verified.

    Needs no lattice. The file is written whole or not at all, when its digests are right.
    """
    reference = _reference(url, registry)
    access = _access(reference, user, password, insecure=insecure, latest=allow_latest, ca=ca)
    with output.progress(f"pulling {reference}") as on_progress:
        async with _connect(options, access, reference) as repository:
            resolved = await repository.resolve(reference)
            _check_digest(digest, resolved.digest)
            content = await repository.download(
                resolved.layer, bytes_max=limits.PROVIDER_BYTES_MAX, on_progress=on_progress
            )
    path = _destination(destination, reference, content)
    files.write(path, content)
    return Result(
        fields={
            "file": str(path),
            "digest": resolved.digest,
            "bytes": len(content),
            "annotations": dict(resolved.annotations),
        },
        text=[f"Successfully pulled and validated {path}", f"digest: {resolved.digest}"],
    )


def _reference(url: str, registry: str | None) -> Reference:
    """The reference that a URL means, in the registry given if it names none itself."""
    url = url.strip()
    try:
        return references.parse(url)
    except errors.InvalidRequest:
        if not registry:
            raise
    return references.parse(f"{registry.strip().rstrip('/')}/{url}")


def _access(
    reference: Reference,
    user: str | None,
    password: str | None,
    *,
    insecure: bool,
    latest: bool,
    ca: Path | None,
) -> RegistryAccess:
    if (user is None) != (password is None):
        raise errors.InvalidRequest("--user and --password want each other")
    own = Credentials(username=user, password=password)
    directory = os.environ.get("DOCKER_CONFIG")
    return RegistryAccess(
        own={reference.registry: own} if user is not None else {},
        docker_config=Path(directory) / "config.json" if directory else credentials.DOCKER_CONFIG,
        allowed_insecure=[reference.registry] if insecure else [],
        allow_latest=latest,
        certificates=ca,
    )


@asynccontextmanager
async def _connect(
    options: Options, access: RegistryAccess, reference: Reference
) -> AsyncIterator["Repository"]:
    # Loaded here: most commands never speak HTTP, and every one of them would wait for it.
    from lattice.registry import client  # noqa: PLC0415

    timeout_s = options.timeout_ms / 1000 if options.timeout_ms else client.TRANSFER_TIMEOUT_S
    async with client.connect(access, reference, timeout_s=timeout_s) as repository:
        yield repository


def _check_digest(wanted: str | None, found: str) -> None:
    if wanted is not None and wanted.removeprefix("sha256:") != found.removeprefix("sha256:"):
        raise errors.Denied(f"the registry has {found}, not {wanted[:100]}")


def _destination(given: Path | None, reference: Reference, content: bytes) -> Path:
    kind = manifests.kind_of(content)
    name = reference.name.rpartition("/")[2] + (SUFFIXES[kind] if kind else "")
    if given is None:
        return Path(name)
    return given / name if given.is_dir() else given
