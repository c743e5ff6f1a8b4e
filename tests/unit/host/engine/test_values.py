"""Every WIT type, both ways: values that went through a component are what they were."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host.engine import Component, Engine, EngineSettings, wit
from lattice import errors, limits
from lattice.wire import codec
from tests.support import components
from tests.support.host_calls import Host, execution, run

NAMES = tuple("abcdefgh")
INTEGERS = {
    f"{sign}{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if sign == "s" else (0, 2**bits - 1)
    for sign in "su"
    for bits in (8, 16, 32, 64)
}
PRIMITIVES = st.sampled_from([*INTEGERS, "bool", "f32", "f64", "char", "string"]).map(wit.Primitive)
LENGTHS = st.integers(1, 5)


def _wrapped(inner: st.SearchStrategy[wit.Type]) -> st.SearchStrategy[wit.Type]:
    perhaps = st.none() | inner
    return st.one_of(
        inner.map(wit.List),
        inner.map(wit.Option),
        st.lists(inner, min_size=1, max_size=5).map(lambda kinds: wit.Tuple(tuple(kinds))),
        st.lists(inner, min_size=1, max_size=5).map(
            lambda kinds: wit.Record(tuple(zip(NAMES, kinds, strict=False)))
        ),
        st.lists(perhaps, min_size=1, max_size=5).map(
            lambda kinds: wit.Variant(tuple(zip(NAMES, kinds, strict=False)))
        ),
        st.builds(wit.Result, perhaps, perhaps),
    )


TYPES: st.SearchStrategy[wit.Type] = st.recursive(
    PRIMITIVES
    | LENGTHS.map(lambda length: wit.Enum(NAMES[:length]))
    | LENGTHS.map(lambda length: wit.Flags(NAMES[:length])),
    _wrapped,
    max_leaves=8,
)


def values(kind: wit.Type) -> st.SearchStrategy[Any]:
    match kind:
        case wit.Primitive("bool"):
            return st.booleans()
        case wit.Primitive("f32"):
            return st.floats(width=32)
        case wit.Primitive("f64"):
            return st.floats()
        case wit.Primitive("char"):
            return st.characters(codec="utf-8")
        case wit.Primitive("string"):
            return st.text(st.characters(codec="utf-8"))
        case wit.Primitive(name):
            return st.integers(*INTEGERS[name])
        case wit.List(wit.Primitive("u8")):
            return st.binary()
        case wit.List(element):
            return st.lists(values(element), max_size=4)
        case wit.Tuple(elements):
            return st.tuples(*map(values, elements)).map(list)
        case wit.Record(fields):
            return st.fixed_dictionaries({name: values(each) for name, each in fields})
        case wit.Variant(cases):
            return st.one_of(*(_case(name, each) for name, each in cases))
        case wit.Result(good, bad):
            return _case("ok", good) | _case("err", bad)
        case wit.Option(wit.Option() as payload):
            return st.none() | values(payload).map(lambda value: [value])
        case wit.Option(payload):
            return st.none() | values(payload)
        case wit.Enum(names):
            return st.sampled_from(names)
        case wit.Flags(names):
            # In the order of the type: that is how a set of bits is read.
            return st.sets(st.sampled_from(names)).map(sorted)
        case _:
            raise AssertionError(kind)


def _case(name: str, kind: wit.Type | None) -> st.SearchStrategy[Any]:
    payload = st.none() if kind is None else values(kind)
    return payload.map(lambda value: {name: value})


def same(left: Any, right: Any) -> bool:
    """Equality, under which not-a-number is itself."""
    return codec.pack(_canonical(left)) == codec.pack(_canonical(right))


def _canonical(value: Any) -> Any:
    match value:
        case float() if math.isnan(value):
            return "nan"
        case float():
            return struct.pack("<d", value)
        case list():
            return [_canonical(each) for each in value]
        case dict():
            return {name: _canonical(value[name]) for name in sorted(value)}
        case _:
            return value


async def through(engine: Engine, kind: wit.Type, value: Any, operation: str) -> tuple[Any, Host]:
    component = await engine.load(components.echo(kind))
    assert isinstance(component, Component)
    host = Host(lambda request: codec.pack(codec.unpack(request[3])[0]))
    payload = codec.pack([components.padded_value(value)])
    call = execution(component, payload, operation=operation, host=host)
    return codec.unpack(await run(call))[0], host


@pytest.mark.parametrize("operation", ["echo", "relay"])
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_value_of_any_type_comes_through_a_component_unchanged(
    operation: str, data: st.DataObject
) -> None:
    kind = data.draw(TYPES, label="type")
    value = data.draw(values(kind), label="value")

    async def go() -> None:
        engine = Engine(EngineSettings(instances_max=8))
        try:
            came, host = await through(engine, kind, value, operation)
            assert same(came, value)
            for request in host.requests:
                assert request[:3] == ("", "test:echo/echo", "echo.echo")
                assert same(codec.unpack(request[3])[0][0], value)
            assert len(host.requests) == (operation == "relay")
        finally:
            engine.close()

    asyncio.run(go())


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine(EngineSettings(instances_max=8))
    yield engine
    engine.close()


U8, STRING = wit.Primitive("u8"), wit.Primitive("string")
RECORD = wit.Record((("a", U8), ("b", STRING)))
VARIANT = wit.Variant((("a", None), ("b", U8)))


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (U8, 256, "x[0]: want u8, got 256"),
        (U8, True, "x[0]: want u8, got True"),
        (U8, "1", "x[0]: want u8, got '1'"),
        (wit.Primitive("bool"), 1, "x[0]: want bool, got 1"),
        (wit.Primitive("f32"), 1e300, "x[0]: want f32, got 1e+300"),
        (wit.Primitive("char"), "ab", "x[0]: want char, got 'ab'"),
        (wit.List(U8), "text", "x[0]: want list<u8>, got 'text'"),
        (wit.List(STRING), ["a", 1], "x[0][1]: want string, got 1"),
        (RECORD, {"a": 1}, "x[0]: want record { a: u8, b: string }, got dict of 1"),
        (RECORD, {"a": 1, "b": 2}, "x[0].b: want string, got 2"),
        (VARIANT, {"c": None}, "x[0]: want variant { a, b(u8) }, got 'c'"),
        (VARIANT, {"a": 1}, "x[0]: want no payload for a, got 1"),
        (VARIANT, {"b": None}, "x[0].b: want u8, got None"),
        (wit.Enum(("a",)), "b", "x[0]: want enum { a }, got 'b'"),
        (wit.Flags(("a",)), ["b"], "x[0]: want flags { a }, got 'b'"),
        (wit.Option(wit.Option(U8)), 1, "x[0]: want option<option<u8>>, got 1"),
        (wit.Tuple((U8, U8)), [1], "x[0]: want tuple<u8, u8>, got list of 1"),
    ],
    ids=str,
)
async def test_a_value_of_another_type_is_refused_before_anything_runs(
    engine: Engine, kind: wit.Type, value: Any, said: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        await through(engine, kind, value, "echo")
    assert refused.value.text == said


async def test_an_answer_of_another_type_ends_the_call_and_not_the_host(engine: Engine) -> None:
    component = await engine.load(components.echo(U8))
    for wrong in (codec.pack("text"), codec.pack([1]), b"\xc1", b""):
        host = Host(lambda _request, wrong=wrong: wrong)  # type: ignore[misc]
        payload = codec.pack([components.padded_value(1)])
        with pytest.raises(errors.ActorError, match="the answer to a call of the actor"):
            await run(execution(component, payload, operation="relay", host=host))


async def test_more_values_than_a_call_may_bring_are_refused(engine: Engine) -> None:
    content = bytes(limits.WIT_CROSSING_MAX + 1)
    with pytest.raises(errors.PayloadTooLarge) as refused:
        await through(engine, wit.List(U8), content, "echo")
    assert str(limits.WIT_CROSSING_MAX) in refused.value.text


async def test_values_nested_as_deep_as_types_may_be_come_through(engine: Engine) -> None:
    kind: wit.Type = U8
    value: Any = 7
    for _ in range(90):
        kind, value = wit.List(kind), [value]
    came, _ = await through(engine, kind, _as_bytes(value), "relay")
    assert same(came, _as_bytes(value))


def _as_bytes(value: Any) -> Any:
    """Innermost, a list of bytes is bytes."""
    return bytes(value) if isinstance(value[0], int) else [_as_bytes(each) for each in value]
