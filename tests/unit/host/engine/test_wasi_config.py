"""What the host itself answers components: secrets, and the choice of links."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from host.engine import Code
from lattice import errors
from lattice.wire import codec
from tests.support.components import guest
from tests.support.engines import idle_engine
from tests.support.host_calls import Host, Request, execution, run


@pytest.fixture
async def component() -> AsyncIterator[Code]:
    async with idle_engine(instances_max=8) as engine:
        yield await engine.load(guest("capabilities"))


async def exercise(component: Code, what: str, host: Host) -> Any:
    call = execution(component, codec.pack([what]), operation="exercise", host=host)
    return codec.unpack(await run(call))


def configured(request: Request) -> bytes:
    """Answer what is asked of an actor's configuration."""
    _, namespace, operation, payload = request
    assert (namespace, operation) == ("wasmcloud:builtin:config", "Config.Get")
    value = {"secret.password": "hush", "password": "public"}.get(codec.unpack(payload))
    return codec.pack({"value": value or "", "exists": value is not None})


async def test_a_secret_is_revealed_to_who_asks_for_it(component: Code) -> None:
    found = await exercise(component, "secret password", Host(configured))
    assert found == {"ok": 'SecretValue::String("hush")'}


async def test_a_secret_that_is_not_there_is_not_found(component: Code) -> None:
    found = await exercise(component, "secret other", Host(configured))
    assert found["err"].endswith("NotFound")


async def test_a_configuration_that_can_not_be_asked_is_an_error_of_the_interface(
    component: Code,
) -> None:
    def away(_request: Request) -> bytes:
        raise errors.Unavailable("gone")

    found = await exercise(component, "secret password", Host(away))
    assert found["err"].endswith('Upstream("unavailable: gone")')


async def test_a_link_that_is_not_there_can_not_be_chosen(component: Code) -> None:
    host = Host()
    found = await exercise(component, "link2 vault", host)
    assert found["err"].startswith("no_link: ")
    assert host.requests == []
    assert "--link-name vault" in found["err"]


async def test_a_link_is_taken_once_it_is_chosen(component: Code) -> None:
    def answer(request: Request) -> bytes:
        raise errors.Unavailable(f"asked over {request[0]}")

    host = Host(answer)
    host.links.add(("vault", "wasi:keyvalue/store"))
    assert "asked over vault" in (await exercise(component, "link2 vault", host))["err"]


@pytest.mark.parametrize("name", ["Not A Name", "x" * 1000])
async def test_a_name_that_can_be_no_links_is_an_error(component: Code, name: str) -> None:
    assert (await exercise(component, f"link2 {name}", Host()))["err"].startswith("invalid_request")


async def test_the_first_version_takes_any_link_and_its_calls_tell(component: Code) -> None:
    def answer(request: Request) -> bytes:
        raise errors.NoLink("guest", request[0], request[1])

    host = Host(answer)
    assert "NoSuchStore" in (await exercise(component, "link vault", host))["err"]
    assert host.requests[0][0] == "vault"
