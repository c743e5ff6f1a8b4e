"""What was signed and ever started in this lattice."""

import typer

from lattice.cli import output
from lattice.cli.connection import connect
from lattice.cli.options import Options, command
from lattice.cli.output import Result


def register(get: typer.Typer) -> None:
    command(get, "claims", example="lattice get claims --output json")(get_claims)


async def get_claims(options: Options) -> Result:
    """List what signed components and providers say of themselves.

    Those that were ever started in this lattice: their subject, their issuer, name, version and
    revision. What is not signed says nothing.
    """
    async with connect(options) as connection:
        found = await connection.control.claims()
    found.sort(key=lambda claims: (claims.get("name", ""), claims.get("sub", "")))
    rows = [
        (
            claims.get("name", ""),
            claims.get("subject", claims.get("sub", "")),
            claims.get("issuer", claims.get("iss", "")),
            claims.get("version", ""),
            claims.get("revision", claims.get("rev", "")),
        )
        for claims in found
    ]
    table = output.table(("Name", "Subject", "Issuer", "Version", "Revision"), rows)
    note = "" if found else "nothing that is signed was ever started in this lattice"
    return Result(fields={"claims": found}, text=[table], note=note)
