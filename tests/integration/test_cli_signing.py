"""``lattice keys``, ``claims`` and ``par``, as typed, with no lattice anywhere."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from lattice import archives
from lattice.identity import claims, keys
from tests.support import command_line
from tests.support.command_line import Outcome
from tests.support.wat import actor


@dataclass(frozen=True)
class Workshop:
    """A directory with an actor and a provider's program in it, and one for keys."""

    directory: Path

    async def run(self, line: str, *, wash: bool = False) -> Outcome:
        variable = "WASH_KEYS" if wash else "LATTICE_KEYS"
        environment = {variable: str(self.directory / "keys"), "USER": "ada"}
        return await command_line.run_shell(
            f"lattice {line}", environment=environment, directory=self.directory
        )

    async def json(self, line: str) -> dict[str, object]:
        outcome = await self.run(f"{line} --output json")
        assert outcome.status == 0, outcome.errors
        return outcome.json

    def read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "echo.wasm").write_bytes(actor("echo"))
    (tmp_path / "keeper").write_bytes(b"\x7fELF here")
    (tmp_path / "keeper-arm").write_bytes(b"\x7fELF there")
    return Workshop(tmp_path)


async def test_a_key_is_made_stored_listed_and_shown_to_who_asks(workshop: Workshop) -> None:
    made = await workshop.json("keys gen Account --save ada_account")
    public = str(made["public_key"])
    seed = workshop.read("keys/ada_account.nk").decode()

    listed = await workshop.run("keys list")
    assert public in listed.output
    assert seed not in f"{made}{listed.output}{listed.errors}"
    assert (await workshop.json("keys list"))["keys"] == ["ada_account"]
    assert (await workshop.run("keys get ada_account", wash=True)).output == f"{seed}\n"
    assert (await workshop.run("keys get ada_account --public")).output == f"{public}\n"


async def test_a_key_that_is_not_stored_is_shown(workshop: Workshop) -> None:
    made = await workshop.json("keys gen provider")

    assert keys.parse_seed(str(made["seed"])).public_key == made["public_key"]
    assert not (workshop.directory / "keys").exists()


async def test_wrong_words_about_keys_are_told_apart(workshop: Workshop) -> None:
    unknown = await workshop.run("keys gen actor")
    absent = await workshop.run("keys get nobody")
    empty = await workshop.run("keys list")

    assert (unknown.status, absent.status, empty.status) == (2, 3, 0)
    assert "component, " in unknown.errors
    assert "remedy: see which there are with: lattice keys list" in absent.errors


async def test_an_actor_is_signed_with_wash_s_arguments(workshop: Workshop) -> None:
    signed = await workshop.run(
        "claims sign ./echo.wasm -n Echo -t web -t demo -r 4 -v 0.4.0 -a acme/echo -x 30 -b 0"
    )
    shown = await workshop.json("claims inspect echo_s.wasm")
    table = await workshop.run("claims inspect echo_s.wasm")

    assert signed.status == 0
    assert signed.output == "Successfully signed echo_s.wasm\n"
    assert "ada_account.nk" in signed.errors
    assert "echo_module.nk" in signed.errors
    found = claims.component_claims(workshop.read("echo_s.wasm"))
    assert found is not None
    assert found.covers_content
    assert (found.name, found.tags, found.revision) == ("Echo", ("web", "demo"), 4)
    assert (found.version, found.call_alias) == ("0.4.0", "acme/echo")
    assert found.expires == found.issued_at + 30 * 86_400
    assert found.not_before == found.issued_at
    issuer = keys.parse_seed(workshop.read("keys/ada_account.nk").decode()).public_key
    assert shown["account"] == shown["issuer"] == found.issuer == issuer
    assert shown["component"] == found.subject
    assert (shown["valid_now"], shown["covers_content"]) == (True, True)
    assert issuer in table.output


async def test_the_token_itself_can_be_had(workshop: Workshop) -> None:
    await workshop.run("claims sign echo.wasm -d out/signed.wasm")

    token = (await workshop.run("claims inspect out/signed.wasm --jwt-only")).output.strip()

    assert claims.embedded(workshop.read("out/signed.wasm")) == token


async def test_what_is_wrong_with_an_actor_decides_the_exit_status(workshop: Workshop) -> None:
    await workshop.run("claims sign echo.wasm")
    (workshop.directory / "changed.wasm").write_bytes(workshop.read("echo_s.wasm") + b"\0\2\1x")

    unsigned = await workshop.run("claims inspect echo.wasm")
    changed = await workshop.run("claims inspect changed.wasm")
    neither = await workshop.run("claims sign keeper")
    absent = await workshop.run("claims sign nothing.wasm")
    keyless = await workshop.run("claims sign keeper-arm --disable-keygen")

    assert [o.status for o in (unsigned, changed, neither, absent, keyless)] == [3, 6, 2, 3, 2]
    assert "lattice claims sign FILE" in unsigned.errors
    assert "changed after" in changed.errors
    assert not (workshop.directory / "keys" / "keeper_module.nk").exists()


async def test_an_archive_is_made_filled_and_looked_into(workshop: Workshop) -> None:
    (workshop.directory / "schema.json").write_text('{"type": "object"}')
    created = await workshop.json(
        "par create -n Keeper -v acme -r 1 --version 0.1.0 -b ./keeper -a x86_64-linux"
        " -j schema.json --compress"
    )
    inserted = await workshop.json(
        "par insert keeper.par.gz --binary ./keeper-arm --arch aarch64-linux"
    )
    shown = await workshop.json("par inspect keeper.par.gz")

    assert created["file"] == inserted["file"] == "keeper.par.gz"
    assert inserted["targets"] == ["aarch64-linux", "x86_64-linux"]
    content = workshop.read("keeper.par.gz")
    assert archives.is_compressed(content)
    assert archives.read(content, "x86_64-linux").binary == b"\x7fELF here"
    found = archives.read(content, "aarch64-linux")
    assert found.binary == b"\x7fELF there"
    # What was inserted is another program of the same provider.
    assert found.claims.subject == created["service"] == shown["service"]
    assert (found.claims.name, found.claims.vendor, found.claims.revision) == ("Keeper", "acme", 1)
    assert json.loads(found.claims.config_schema or "") == shown["schema"] == {"type": "object"}
    assert (await workshop.json("claims inspect keeper.par.gz")) == shown
    assert sorted(path.name for path in (workshop.directory / "keys").iterdir()) == [
        "ada_account.nk",
        "keeper_service.nk",
    ]


async def test_wrong_usage_of_archives_is_told(workshop: Workshop) -> None:
    machine = await workshop.run("par create -n K -v a -b keeper -a linux")
    other = await workshop.run("par inspect echo.wasm")
    schema = await workshop.run("par create -n K -v a -b keeper -j keeper-arm")

    assert [o.status for o in (machine, other, schema)] == [2, 2, 2]
    assert "ARCH-OS" in machine.errors
    assert "not a provider archive" in other.errors
    assert "not JSON" in schema.errors
    assert not (workshop.directory / "keys").exists()
