"""Looking into what runs, or shall run: a file, a reference, a component; and who signed it."""

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from lattice import archives, artefacts, binaries, errors, limits
from lattice.binaries import Abi, Binary, Needed
from lattice.cli import completion, files, hosts, output, references
from lattice.cli.artefacts import (
    InsecureOption,
    LatestOption,
    PasswordOption,
    UserOption,
)
from lattice.cli.connection import connect
from lattice.cli.options import Options, command
from lattice.cli.output import Result
from lattice.identity import claims as identity
from lattice.identity import sections
from lattice.identity.claims import Claims
from lattice.registry import credentials
from lattice.registry.credentials import Credentials, RegistryAccess
from lattice.registry.references import parse as parse_reference

NAMES_SHOWN = 40
"""Imports or exports that people are shown; a module may have thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """An artefact and what it says of itself."""

    reference: str
    content: bytes
    binary: Binary | None = None
    """None for a provider archive."""
    claims: Claims | None = None
    fault: str = ""
    """What is wrong with its claims."""
    targets: tuple[str, ...] = ()
    """The kinds of machine that a provider archive is for."""

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def kind(self) -> str:
        return "provider archive" if self.binary is None else self.binary.abi.value

    @property
    def needs(self) -> tuple[Needed, ...]:
        """The links it will need, as far as can be known."""
        if self.binary is None:
            return ()
        declared = capabilities(self.claims) if self.binary.abi is Abi.WAPC else ()
        return binaries.contract_needs(declared) if declared else self.binary.needs


def register(app: typer.Typer, *, panel: str) -> None:
    command(app, "inspect", panel=panel, example="lattice inspect ./counter.wasm")(inspect)


async def inspect(
    options: Options,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A file here; a reference, lattice:// or into a registry; or the id of a"
            " component that runs.",
            autocompletion=completion.components,
        ),
    ],
    *,
    jwt_only: Annotated[
        bool, typer.Option("--jwt-only", help="Print its token as it is, and nothing else.")
    ] = False,
    digest: Annotated[
        str | None,
        typer.Option("--digest", "-d", metavar="SHA256", help="Digest that its content must have."),
    ] = None,
    user: UserOption = None,
    password: PasswordOption = None,
    insecure: InsecureOption = False,
    allow_latest: LatestOption = False,
) -> Result:
    """Show what a module, a component or a provider archive says of itself.

    Its size, digest and ABI; what it imports and exports; who signed it and whether that is so; and
    the links that it will need: of a component those follow from its imports and exports, of a waPC
    module from the contracts in its claims or, when there are none, those that its data mentions.
    ID is what it will be started as; TARGET is what it calls, and SOURCE what calls it.
    """
    if (path := references.local_file(target)) is not None:
        inspected = look(target, files.read(path, limits.PROVIDER_BYTES_MAX))
    else:
        own = Credentials(username=user, password=password) if user is not None else None
        access = _access(target, own, insecure=insecure, latest=allow_latest)
        inspected = look(*await _fetched(options, target, access))
    if digest is not None and digest.removeprefix("sha256:") != inspected.digest[7:]:
        raise errors.Denied(f"{target} has {inspected.digest}, not {digest[:100]}")
    if jwt_only:
        token = _token(inspected)
        return Result(fields={"token": token}, text=[token])
    return Result(fields=fields(inspected), text=text(inspected))


def look(reference: str, content: bytes) -> Inspected:
    """Look into an artefact; claims that are not what they say are told, not an error.

    Raises:
        InvalidRequest: neither WebAssembly nor a provider archive.
    """
    if archives.is_archive(content):
        claims, fault = None, ""
        try:
            claims = archives.unpack(content).claims
        except errors.Denied as error:
            fault = error.text
        targets = tuple(archives.targets(claims)) if claims is not None else ()
        return Inspected(
            reference=reference, content=content, claims=claims, fault=fault, targets=targets
        )
    if not sections.is_wasm(content):
        raise errors.InvalidRequest(
            f"{reference} is neither a module, nor a component, nor a provider archive"
        )
    claims, fault = None, ""
    try:
        claims = identity.component_claims(content)
    except errors.LatticeError as error:
        fault = error.text
    return Inspected(
        reference=reference,
        content=content,
        binary=binaries.read(content),
        claims=claims,
        fault=fault,
    )


def capabilities(claims: Claims | None) -> tuple[str, ...]:
    """The contracts that claims of wasmCloud 0.x ask for."""
    if claims is None:
        return ()
    body = claims.token.split(".")[1]
    try:
        wascap = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["wascap"]
        declared = wascap.get("caps") or ()
    except (ValueError, KeyError, AttributeError, RecursionError):
        return ()
    return tuple(contract for contract in declared if isinstance(contract, str))


def fields(inspected: Inspected) -> dict[str, Any]:
    binary = inspected.binary
    return {
        "reference": inspected.reference,
        "kind": inspected.kind,
        "bytes": len(inspected.content),
        "digest": inspected.digest,
        "imports": _names_json(binary.imports if binary else ()),
        "exports": _names_json(binary.exports if binary else ()),
        "custom_sections": [
            {"name": name, "bytes": size} for name, size in (binary.custom if binary else ())
        ],
        "needs_links": needs_json(inspected.needs),
        "targets": list(inspected.targets),
        "signed": inspected.claims is not None,
        "claims": _claims_json(inspected.claims),
        "claims_fault": inspected.fault or None,
    }


def needs_json(needs: Iterable[Needed]) -> list[dict[str, Any]]:
    return [
        {
            "wit_namespace": needed.namespace,
            "wit_package": needed.package,
            "interfaces": list(needed.interfaces),
            "role": "target" if needed.is_target else "source",
        }
        for needed in needs
    ]


def text(inspected: Inspected) -> list[RenderableType]:
    size = len(inspected.content)
    lines: list[RenderableType] = [
        Text.assemble((output.visible(inspected.reference), "bold")),
        f"  {inspected.kind}, {size:,} bytes",
        f"  {inspected.digest}",
    ]
    if inspected.targets:
        lines.append(output.visible(f"  for {', '.join(inspected.targets)}"))
    lines += _claims_text(inspected)
    if (binary := inspected.binary) is not None:
        lines += _names_text("imports", binary.imports)
        lines += _names_text("exports", binary.exports)
        listed = ", ".join(f"{name} ({size:,} bytes)" for name, size in binary.custom)
        lines.append(output.visible(f"custom sections: {listed or 'none'}"))
        lines += _needs_text(inspected)
    return lines


def _claims_text(inspected: Inspected) -> list[RenderableType]:
    if inspected.fault:
        return [output.visible(f"signed, but not to be trusted: {inspected.fault}")]
    if (claims := inspected.claims) is None:
        return ["not signed"]
    rows = [
        ("name", claims.name),
        ("subject", claims.subject),
        ("issuer", claims.issuer),
        ("version", claims.version),
        ("revision", None if claims.revision is None else str(claims.revision)),
        ("tags", ", ".join(claims.tags or ()) or None),
        ("expires", identity.moment(claims.expires) if claims.expires else "never"),
    ]
    known = [f"  {label:9} {value}" for label, value in rows if value]
    return ["signed", *(output.visible(line) for line in known)]


def _names_text(heading: str, names: Iterable[binaries.Name]) -> list[RenderableType]:
    everything = [f"  {name.name} ({name.kind})" for name in names]
    lines = [f"{heading}:{'' if everything else ' none'}", *everything[:NAMES_SHOWN]]
    if len(everything) > NAMES_SHOWN:
        lines.append(f"  and {len(everything) - NAMES_SHOWN} more")
    return [output.visible(line) for line in lines]


def _needs_text(inspected: Inspected) -> list[RenderableType]:
    lines = ["links it will need:" if inspected.needs else "links it will need: none known"]
    for needed in inspected.needs:
        options = "".join(
            f" --interface {interface}" for interface in needed.interfaces if interface
        )
        ends = "SOURCE ID" if needed.is_target else "ID TARGET"
        lines.append(f"  lattice link put {ends} {needed.namespace} {needed.package}{options}")
    return [output.visible(line) for line in lines]


def _names_json(names: Iterable[binaries.Name]) -> list[dict[str, str]]:
    return [{"name": name.name, "kind": name.kind} for name in names]


def _claims_json(claims: Claims | None) -> dict[str, Any] | None:
    if claims is None:
        return None
    return {
        "kind": claims.kind,
        "subject": claims.subject,
        "issuer": claims.issuer,
        "name": claims.name,
        "version": claims.version,
        "revision": claims.revision,
        "tags": list(claims.tags or ()),
        "call_alias": claims.call_alias,
        "not_before": claims.not_before,
        "expires": claims.expires,
    }


def _token(inspected: Inspected) -> str:
    if inspected.claims is not None:
        return inspected.claims.token
    raise errors.NotFound(inspected.fault or f"{inspected.reference} is not signed")


async def _fetched(options: Options, target: str, access: RegistryAccess) -> tuple[str, bytes]:
    """What a reference or a component's id means: the reference, and its content."""
    if references.is_remote(target):
        return target, await _fetch(options, target, access)
    async with connect(options) as connection:
        running = {
            component.image_ref
            for inventory in await hosts.inventories(connection)
            for component in inventory.components
            if component.id == target
        }
    match sorted(running):
        case [reference]:
            return reference, await _fetch(options, reference, access)
        case []:
            raise errors.NotFound(
                f"there is no file {target}, it is no reference, and no component of that id runs"
            )
        case several:
            raise errors.InvalidRequest(
                f"component {target} runs from {' and '.join(several)}: name one of them"
            )


async def _fetch(options: Options, reference: str, access: RegistryAccess) -> bytes:
    if reference.startswith(artefacts.SCHEME):
        stored = artefacts.parse(reference)
        async with connect(options) as connection:
            return await artefacts.download(connection.bus, connection.lattice, stored)
    if reference.startswith("file://"):
        if (path := references.local_file(reference.removeprefix("file://"))) is not None:
            return files.read(path, limits.PROVIDER_BYTES_MAX)
        raise errors.NotFound(f"{reference} is a file of the host's, not of this machine")
    # Loaded here: most commands never speak HTTP, and every one of them would wait for it.
    from lattice.registry import client  # noqa: PLC0415

    parsed = parse_reference(reference)
    timeout_s = options.timeout_ms / 1000 if options.timeout_ms else client.TRANSFER_TIMEOUT_S
    with output.progress(f"pulling {reference}") as on_progress:
        async with client.connect(access, parsed, timeout_s=timeout_s) as repository:
            resolved = await repository.resolve(parsed)
            return await repository.download(
                resolved.layer, bytes_max=limits.PROVIDER_BYTES_MAX, on_progress=on_progress
            )


def _access(
    target: str, own: Credentials | None, *, insecure: bool, latest: bool
) -> RegistryAccess:
    registry = target.removeprefix("oci://").partition("/")[0]
    directory = os.environ.get("DOCKER_CONFIG")
    return RegistryAccess(
        own={registry: own} if own is not None else {},
        docker_config=Path(directory) / "config.json" if directory else credentials.DOCKER_CONFIG,
        allowed_insecure=[registry] if insecure else [],
        allow_latest=latest,
        certificates=None,
    )
