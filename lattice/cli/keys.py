"""Keys: made, listed, shown. Public ones anybody may know; a seed is a secret."""

from typing import Annotated

import typer

from lattice import errors
from lattice.cli import keyring, output
from lattice.cli.keyring import DirectoryOption
from lattice.cli.options import Options, command
from lattice.cli.output import Result
from lattice.identity import keys
from lattice.identity.keys import KINDS, KeyPair, Kind


def register(group: typer.Typer) -> None:
    command(group, "gen", example="lattice keys gen account --save me_account", offline=True)(
        generate
    )
    command(group, "list", example="lattice keys list", offline=True)(list_keys)
    command(group, "get", example="lattice keys get me_account --public", offline=True)(get_key)


async def generate(
    _options: Options,
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help=f"Whose it is: {', '.join(sorted(KINDS))}."),
    ],
    *,
    save: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Store the seed under this name; it is not shown then."),
    ] = None,
    directory: DirectoryOption = None,
) -> Result:
    """Make a new key: a seed, which is a secret, and the public key that goes with it.

    With --save the seed goes into a file that only you can read, and is not shown.
    """
    pair = keys.parse_seed(keys.new_seed(_kind(kind)))
    shown = f"Public Key: {pair.public_key}"
    if save is not None:
        path = keyring.keyring(directory).save(save, pair.seed)
        return Result(
            fields={"public_key": pair.public_key, "file": str(path)},
            text=[shown, output.visible(f"File: {path}")],
        )
    return Result(
        fields={"public_key": pair.public_key, "seed": pair.seed},
        text=[shown, f"Seed: {pair.seed}"],
        note="Remember that the seed is private, treat it as a secret.",
    )


async def list_keys(_options: Options, *, directory: DirectoryOption = None) -> Result:
    """List the keys in a directory with their public keys; no seed is shown.

    A key is a file NAME.nk with a seed in it.
    """
    ring = keyring.keyring(directory)
    found = {name: _readable(ring, name) for name in ring.names()}
    rows = [
        (name, pair.kind.word if pair else "unreadable", pair.public_key if pair else "-")
        for name, pair in found.items()
    ]
    return Result(
        fields={
            "keys": list(found),
            "public_keys": {name: pair.public_key for name, pair in found.items() if pair},
        },
        text=[output.table(["Name", "Kind", "Public Key"], rows)],
        note="" if found else f"no keys in {ring.directory}",
    )


async def get_key(
    _options: Options,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key.")],
    *,
    public: Annotated[
        bool, typer.Option("--public", help="Show the public key instead, which is no secret.")
    ] = False,
    directory: DirectoryOption = None,
) -> Result:
    """Show the seed of a key, which is a secret; or its public key.

    Whoever has the seed can sign in your name; --public shows what may be known to all.
    """
    pair = keyring.keyring(directory).load(name)
    if public:
        return Result(fields={"public_key": pair.public_key}, text=[pair.public_key])
    return Result(fields={"seed": pair.seed}, text=[pair.seed])


def _kind(word: str) -> Kind:
    try:
        return KINDS[word.lower()]
    except KeyError:
        known = ", ".join(sorted(KINDS))
        raise errors.InvalidRequest(f"{word[:100]!r} is not a kind of key: {known}") from None


def _readable(ring: keyring.Keyring, name: str) -> KeyPair | None:
    try:
        return ring.load(name)
    except errors.LatticeError:
        return None
