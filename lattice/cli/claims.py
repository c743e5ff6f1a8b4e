"""Claims: sign an actor, look at what an actor or a provider says of itself."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lattice import archives, errors, limits
from lattice.cli import files, keyring, output
from lattice.cli.keyring import DisableKeygenOption, IssuerOption
from lattice.cli.options import Options, command
from lattice.cli.output import Result
from lattice.identity import claims as identity
from lattice.identity import sections
from lattice.identity.claims import Claims
from lattice.identity.keys import Kind

DAYS_MAX = 365_000
"""A thousand years: what is to hold for longer need not expire."""

DAY_S = 86_400

# Not -d, which is the destination.
DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        envvar=["LATTICE_KEYS", "WASH_KEYS"],
        metavar="DIR",
        help="Where keys are kept.",
        show_default="~/.lattice/keys",
    ),
]


class NotSigned(errors.NotFound):
    """There are no claims in it."""

    remedy = "sign it with: lattice claims sign FILE"


def register(group: typer.Typer) -> None:
    command(group, "sign", example="lattice claims sign counter.wasm --rev 1 -v 0.1", offline=True)(
        sign
    )
    command(group, "inspect", example="lattice claims inspect counter_s.wasm", offline=True)(
        inspect
    )


async def sign(
    _options: Options,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The module or component.")],
    *,
    destination: Annotated[
        Path | None,
        typer.Option(
            "--destination",
            "-d",
            metavar="FILE",
            help="Where to write it.",
            show_default="NAME_s.wasm beside FILE",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", "-n", metavar="TEXT", help="Name of the actor.", show_default="the file's"
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", metavar="TEXT", help="A tag. Repeatable.")
    ] = None,
    rev: Annotated[
        int | None,
        typer.Option("--rev", "-r", metavar="N", help="Revision, greater than the last one's."),
    ] = None,
    ver: Annotated[
        str | None, typer.Option("--ver", "-v", metavar="TEXT", help="Version for people.")
    ] = None,
    call_alias: Annotated[
        str | None,
        typer.Option(
            "--call-alias", "-a", metavar="NAME", help="Another name: lower case, digits, _ and /."
        ),
    ] = None,
    issuer: IssuerOption = None,
    subject: Annotated[
        str | None,
        keyring.subject_option(
            "The actor's own key: its public key, a file with its seed, or the seed.",
            default="NAME_module.nk, made if need be",
        ),
    ] = None,
    directory: DirectoryOption = None,
    expires: Annotated[
        int | None,
        typer.Option(
            "--expires",
            "-x",
            min=0,
            max=DAYS_MAX,
            metavar="DAYS",
            help="Days until it may not be started any more.",
            show_default="never",
        ),
    ] = None,
    nbf: Annotated[
        int | None,
        typer.Option(
            "--nbf",
            "-b",
            min=0,
            max=DAYS_MAX,
            metavar="DAYS",
            help="Days until it may be started.",
            show_default="at once",
        ),
    ] = None,
    disable_keygen: DisableKeygenOption = False,
) -> Result:
    """Sign an actor: put claims into it that say who made it, and that nobody changed it since.

    What it was signed with before goes. Keys that are not given are looked for by name, and made
    where there are none.
    """
    wasm = files.read(source, limits.MODULE_BYTES_MAX)
    alias = None if call_alias is None else identity.check_call_alias(call_alias)
    # Before any key is made for it.
    stripped = sections.strip(wasm, identity.SECTIONS)
    ring = keyring.keyring(directory)
    issuer_key, made_issuer = keyring.account(issuer, ring, make=not disable_keygen)
    subject_key, made_subject = keyring.subject(
        subject, ring, source.stem, Kind.COMPONENT, make=not disable_keygen
    )
    now = int(time.time())
    claims = Claims(
        kind=Kind.COMPONENT.word,
        subject=subject_key,
        name=name or source.stem,
        tags=tuple(tag or ()),
        revision=rev,
        version=ver,
        call_alias=alias,
        issued_at=now,
        not_before=None if nbf is None else now + nbf * DAY_S,
        expires=None if expires is None else now + expires * DAY_S,
    )
    path = destination or source.with_name(f"{source.stem}_s.wasm")
    files.write(path, identity.sign_component(stripped, claims, issuer_key.seed))
    return Result(
        fields={
            "destination": str(path),
            "account": issuer_key.public_key,
            "component": subject_key,
        },
        text=[output.visible(f"Successfully signed {path}")],
        note="\n".join(filter(None, (made_issuer, made_subject))),
    )


async def inspect(
    _options: Options,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A module, a component or a provider archive.")
    ],
    *,
    jwt_only: Annotated[bool, typer.Option("--jwt-only", help="Show the token itself.")] = False,
) -> Result:
    """Show the claims in an actor or a provider archive; signature and hashes are verified.

    Claims that are forged, or of other code, are an error and not shown.
    """
    content = files.read(file, limits.PROVIDER_BYTES_MAX)
    if archives.is_archive(content):
        claims: Claims | None = archives.unpack(content).claims
    else:
        claims = identity.component_claims(content)
    if claims is None:
        raise NotSigned(f"{file} is not signed")
    return shown(claims, jwt_only=jwt_only)


def shown(claims: Claims, *, jwt_only: bool = False) -> Result:
    """Claims as a result, in ``wash``'s words and with what it leaves out."""
    if jwt_only:
        return Result(fields={"token": claims.token}, text=[claims.token])
    rows = [(heading, output.visible(text)) for heading, text in _rows(claims)]
    return Result(fields=fields(claims), text=[output.table(["Claim", "Value"], rows)])


def fields(claims: Claims) -> dict[str, Any]:
    """Claims as JSON."""
    common: dict[str, Any] = {
        "name": claims.name,
        "kind": claims.kind,
        "issuer": claims.issuer,
        "subject": claims.subject,
        "version": claims.version,
        "revision": claims.revision,
        "issued_at": claims.issued_at,
        "not_before": claims.not_before,
        "expires_at": claims.expires,
        "expires": _expires(claims),
        "can_be_used": _can_be_used(claims),
        "valid_now": _holds_now(claims),
        "covers_content": claims.covers_content,
    }
    if claims.kind == Kind.PROVIDER.word:
        return common | {
            "service": claims.subject,
            "vendor": claims.vendor,
            "targets": archives.targets(claims),
            "hashes": dict(claims.target_hashes),
            "schema": None if claims.config_schema is None else json.loads(claims.config_schema),
        }
    return common | {
        "account": claims.issuer,
        "component": claims.subject,
        "call_alias": claims.call_alias,
        "tags": list(claims.tags or ()),
        "hash": claims.hash,
    }


def _rows(claims: Claims) -> Iterator[tuple[str, str]]:
    revision = "" if claims.revision is None else f" ({claims.revision})"
    yield "Name", claims.name or "-"
    yield "Account", claims.issuer
    yield claims.kind.capitalize(), claims.subject
    if claims.kind == Kind.PROVIDER.word:
        yield "Vendor", claims.vendor or "-"
    yield "Version", f"{claims.version or '-'}{revision}"
    yield "Expires", _expires(claims)
    yield "Can Be Used", _can_be_used(claims)
    if claims.kind == Kind.PROVIDER.word:
        yield "Targets", ", ".join(archives.targets(claims)) or "-"
        return
    yield "Call Alias", claims.call_alias or "-"
    yield "Tags", ", ".join(claims.tags or ()) or "-"
    yield "Hash", "verified" if claims.covers_content else "of an old kind, not verified"


def _expires(claims: Claims) -> str:
    return "never" if claims.expires is None else identity.moment(claims.expires)


def _can_be_used(claims: Claims) -> str:
    return "immediately" if claims.not_before is None else identity.moment(claims.not_before)


def _holds_now(claims: Claims) -> bool:
    try:
        identity.check_now(claims, time.time())
    except errors.Denied:
        return False
    return True
