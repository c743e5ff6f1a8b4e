"""Provider archives: made of a program, looked into, given programs for more kinds of machine."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lattice import archives, errors, limits
from lattice.cli import claims, files, keyring, output
from lattice.cli.keyring import DirectoryOption, DisableKeygenOption, IssuerOption
from lattice.cli.options import Options, command
from lattice.cli.output import Result
from lattice.identity.claims import Claims
from lattice.identity.keys import Kind

SCHEMA_BYTES_MAX = 128 * limits.KIB
"""A schema travels in the token, which is bounded too."""

BinaryOption = Annotated[
    Path, typer.Option("--binary", "-b", metavar="FILE", help="The provider's program.")
]
ArchOption = Annotated[
    str | None,
    typer.Option(
        "--arch",
        "-a",
        metavar="ARCH-OS",
        help="Machines that the program is for.",
        show_default=archives.this_machine(),
    ),
]
SubjectOption = Annotated[
    str | None,
    keyring.subject_option(
        "The provider's own key: its public key, a file with its seed, or the seed.",
        default="NAME_service.nk, made if need be",
    ),
]


def register(group: typer.Typer) -> None:
    command(
        group,
        "create",
        example="lattice par create --name keeper --vendor acme --binary ./keeper",
        offline=True,
    )(create)
    command(group, "inspect", example="lattice par inspect keeper.par.gz", offline=True)(inspect)
    command(
        group,
        "insert",
        example="lattice par insert keeper.par.gz --arch aarch64-linux --binary ./keeper-arm",
        offline=True,
    )(insert)


async def create(
    _options: Options,
    *,
    name: Annotated[
        str, typer.Option("--name", "-n", metavar="TEXT", help="Name of the provider.")
    ],
    vendor: Annotated[
        str, typer.Option("--vendor", "-v", metavar="TEXT", help="Who publishes the provider.")
    ],
    binary: BinaryOption,
    arch: ArchOption = None,
    revision: Annotated[
        int | None,
        typer.Option(
            "--revision", "-r", metavar="N", help="Revision, greater than the last one's."
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="TEXT", help="Version for people.")
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            "--schema",
            "-j",
            envvar=["LATTICE_JSON_SCHEMA", "WASH_JSON_SCHEMA"],
            metavar="FILE",
            help="JSON schema of its links' configuration.",
        ),
    ] = None,
    world: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its interface, as a WIT package encoded to wasm."),
    ] = None,
    destination: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to write it.", show_default="PROGRAM.par or .par.gz here"
        ),
    ] = None,
    compress: Annotated[bool, typer.Option("--compress", help="Make it smaller.")] = False,
    issuer: IssuerOption = None,
    subject: SubjectOption = None,
    directory: DirectoryOption = None,
    disable_keygen: DisableKeygenOption = False,
) -> Result:
    """Make a provider archive of a provider's program, signed.

    Keys that are not given are looked for by name, and made where there are none. Programs for
    more kinds of machine are put in by insert.
    """
    program = files.read(binary, limits.PROVIDER_BYTES_MAX)
    target = archives.check_target(arch or archives.this_machine())
    interface = None if world is None else files.read(world, limits.MODULE_BYTES_MAX)
    config_schema = None if schema is None else _schema(schema)
    ring = keyring.keyring(directory)
    issuer_key, made_issuer = keyring.account(issuer, ring, make=not disable_keygen)
    subject_key, made_subject = keyring.subject(
        subject, ring, binary.stem, Kind.PROVIDER, make=not disable_keygen
    )
    content = archives.create(
        Claims(
            kind=Kind.PROVIDER.word,
            subject=subject_key,
            name=name,
            vendor=vendor,
            revision=revision,
            version=version,
            config_schema=config_schema,
            issued_at=int(time.time()),
        ),
        {target: program},
        issuer_key.seed,
        world=interface,
        compress=compress,
    )
    path = destination or Path(f"{binary.stem}.par{'.gz' if compress else ''}")
    files.write(path, content)
    return Result(
        fields={
            "file": str(path),
            "account": issuer_key.public_key,
            "service": subject_key,
            "targets": [target],
        },
        text=[output.visible(f"Successfully created archive {path}")],
        note="\n".join(filter(None, (made_issuer, made_subject))),
    )


async def inspect(
    _options: Options,
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="The provider archive.")],
) -> Result:
    """Show the claims in a provider archive; signature and hashes are verified.

    And the kinds of machine that it has a program for.
    """
    content = files.read(archive, limits.PROVIDER_BYTES_MAX)
    return claims.shown(archives.unpack(content).claims)


async def insert(
    _options: Options,
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="The provider archive.")],
    *,
    binary: BinaryOption,
    arch: ArchOption = None,
    issuer: IssuerOption = None,
    subject: Annotated[
        str | None,
        keyring.subject_option(
            "The provider's own key, if it is to be another one.",
            default="the one that the archive has",
        ),
    ] = None,
    directory: DirectoryOption = None,
    disable_keygen: DisableKeygenOption = False,
) -> Result:
    """Put a program for another kind of machine into a provider archive, and sign it anew.

    A program for the same kind of machine is replaced.
    """
    content = files.read(archive, limits.PROVIDER_BYTES_MAX)
    program = files.read(binary, limits.PROVIDER_BYTES_MAX)
    target = archives.check_target(arch or archives.this_machine())
    contents = archives.unpack(content)
    ring = keyring.keyring(directory)
    issuer_key, made = keyring.account(issuer, ring, make=not disable_keygen)
    subject_key, _ = keyring.subject(
        subject or contents.claims.subject, ring, binary.stem, Kind.PROVIDER, make=False
    )
    changed = archives.create(
        replace(contents.claims, subject=subject_key, issued_at=int(time.time()), jti=""),
        {**contents.binaries, target: program},
        issuer_key.seed,
        world=contents.world,
        compress=archives.is_compressed(content),
    )
    files.write(archive, changed)
    return Result(
        fields={"file": str(archive), "targets": sorted({*contents.binaries, target})},
        text=[output.visible(f"Successfully inserted {binary} into archive {archive}")],
        note=made,
    )


def _schema(path: Path) -> str:
    content = files.read(path, SCHEMA_BYTES_MAX)
    try:
        return json.dumps(json.loads(content))
    except (ValueError, RecursionError):
        raise errors.InvalidRequest(f"{path} is not JSON") from None
