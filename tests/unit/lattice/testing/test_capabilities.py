"""What stands where an actor's links lead, without a lattice around it."""

import asyncio
from typing import Any

import httpx
import pytest

from lattice import errors
from lattice.testing import web
from lattice.testing.capabilities import Capability, Disturbance, failure
from lattice.wire import codec
from lattice.wire.invocation import Invocation, Reply


def capability(**fields: Any) -> Capability:
    return Capability(id="test-acme-math", interface="acme:math", link_name="default", **fields)


async def call(
    to: Capability, operation: str, payload: bytes = b"", *, timeout_s: float = 20.0
) -> bytes:
    invocation = Invocation(
        source="actor",
        target=to.id,
        interface="acme:math",
        operation=operation,
        payload=payload,
        deadline=asyncio.get_running_loop().time() + timeout_s,
    )
    return (await to.accept(invocation)).payload


@pytest.mark.parametrize("name", ["Math.Add", "Add"])
async def test_an_operation_is_named_in_full_or_by_its_last_part(name: str) -> None:
    math = capability()
    math.answer({name: lambda a, b: a + b})

    assert codec.unpack(await call(math, "Math.Add", codec.pack([1, 2]))) == 3


async def test_the_full_name_goes_before_the_short_one() -> None:
    math = capability()
    math.answer({"Add": lambda: "short", "Math.Add": lambda: "full"})

    assert codec.unpack(await call(math, "Math.Add")) == "full"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(b"", []), (codec.pack([1, "a"]), [1, "a"]), (codec.pack({"k": 1}), [{"k": 1}])],
    ids=["nothing", "a list", "one value"],
)
async def test_a_function_gets_what_the_payload_holds(payload: bytes, expected: list[Any]) -> None:
    math = capability()
    math.answer({"Show": lambda *arguments: list(arguments)})

    assert codec.unpack(await call(math, "Math.Show", payload)) == expected


async def test_what_no_function_answers_goes_to_what_stands_behind() -> None:
    async def behind(invocation: Invocation) -> Reply:
        return Reply(invocation.operation.encode())

    math = capability(forward=behind)
    math.answer({"Add": lambda: 1})

    assert await call(math, "Math.Subtract") == b"Math.Subtract"
    assert math.operations() == ["Math.Subtract"]


async def test_a_raw_function_that_gives_no_bytes_is_told_so() -> None:
    math = capability()
    math.answer({"Add": lambda _payload: 3}, raw=True)

    with pytest.raises(errors.ProviderError, match="gave int"):
        await call(math, "Math.Add")


async def test_a_disturbance_meets_its_operation_so_many_times() -> None:
    math = capability()
    math.answer({"Add": lambda: 1, "Subtract": lambda: 2})
    once = Disturbance(error=failure("unavailable"), operation="Math.Add", delay_s=0, left=1)
    math.disturb(once)

    assert codec.unpack(await call(math, "Math.Subtract")) == 2
    with pytest.raises(errors.Unavailable):
        await call(math, "Math.Add")
    assert codec.unpack(await call(math, "Math.Add")) == 1
    assert once.hits == 1


async def test_an_error_injected_twice_is_raised_anew_each_time() -> None:
    math = capability()
    error = errors.Denied("no", detail={"a": 1})
    math.disturb(Disturbance(error=error, operation=None, delay_s=0, left=None))

    raised = []
    for _ in range(2):
        with pytest.raises(errors.Denied) as caught:
            await call(math, "Math.Add")
        raised.append(caught.value)

    assert raised[0] is not raised[1]
    assert [(each.text, each.detail) for each in raised] == [("no", {"a": 1})] * 2


async def test_a_delay_beyond_the_deadline_is_the_deadline_s_error() -> None:
    math = capability()
    math.disturb(Disturbance(error=None, operation=None, delay_s=60, left=None))

    with pytest.raises(errors.DeadlineExceeded):
        await call(math, "Math.Add", timeout_s=0.01)


def test_an_error_is_named_by_itself_its_class_or_its_code() -> None:
    error = errors.Overloaded("full")

    assert failure(error) is error
    assert isinstance(failure(errors.Overloaded), errors.Overloaded)
    assert isinstance(failure("no_link"), errors.NoLink)


def shown(request: httpx.Request) -> httpx.Response:
    about = f"{request.method} {request.url} {request.headers['x-a']} {request.content.decode()}"
    return httpx.Response(201, text=about, headers=[("x-b", "1"), ("x-b", "2")])


async def ashown(request: httpx.Request) -> httpx.Response:
    return shown(request)


@pytest.mark.parametrize("answer", [shown, ashown])
async def test_a_web_answers_core_modules(answer: web.Web) -> None:
    client = capability()
    client.answer(web.functions(answer), raw=True)
    request = {
        "url": "http://a.test/b?c",
        "method": "POST",
        "headers": {"X-A": ["x"]},
        "body": b"d",
    }

    response = codec.unpack(await call(client, "HttpClient.Request", codec.pack(request)))

    assert response["statusCode"] == 201
    assert response["body"] == b"POST http://a.test/b?c x d"
    assert response["header"]["x-b"] == ["1", "2"]


async def test_a_web_answers_components() -> None:
    client = capability()
    client.answer(web.functions(shown), raw=True)
    request = {
        "method": "PUT", "scheme": "http", "authority": "a.test", "path": "/b?c",
        "headers": [["x-a", b"x"]], "body": b"d", "trailers": [],
    }  # fmt: skip

    outcome = codec.unpack(await call(client, "outgoing-handler.handle", codec.pack([request])))

    response = outcome["ok"]
    assert response["status"] == 201
    assert response["body"] == b"PUT http://a.test/b?c x d"
    assert [value for name, value in response["headers"] if name == "x-b"] == [b"1", b"2"]
