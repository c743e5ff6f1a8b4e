"""The provider's side of its host: links in order, calls counted, hooks that fail."""

import asyncio
from typing import cast

import pytest

from lattice import errors, limits, names
from lattice.bus import Bus
from lattice.rpc import Rpc
from lattice.wire.invocation import Invocation, Reply
from lattice.wire.provider import HostData, ResolvedLink
from providers.sdk import runtime as sdk
from providers.sdk.provider import serves
from providers.sdk.runtime import LinkBook, ProviderRuntime
from tests.support.eventually import eventually
from tests.support.providers import Parrot

NOWHERE = cast("Bus", None)
NOBODY = cast("Rpc", None)


def link(source: str = "tester", *interfaces: str, **config: str) -> ResolvedLink:
    return ResolvedLink(
        source_id=source,
        target="bird",
        wit_namespace="test",
        wit_package="target",
        interfaces=list(interfaces),
        target_config=config,
    )


def handshake() -> HostData:
    return HostData(
        host_id="NHOST",
        lattice_rpc_prefix="default",
        lattice_rpc_url="",
        provider_key="bird",
        instance_id="i",
    )


def call(operation: str = "Parrot.Repeat", *, timeout_s: float = 5.0) -> Invocation:
    return Invocation(
        source="tester",
        target="bird",
        interface="test:target",
        operation=operation,
        payload=b"hi",
        deadline=asyncio.get_running_loop().time() + timeout_s,
    )


class Scene:
    """A runtime without NATS: it is told and called directly, as inside a host."""

    def __init__(self) -> None:
        self.parrot = Parrot()
        self.runtime = ProviderRuntime(self.parrot, handshake(), bus=NOWHERE, rpc=NOBODY)

    async def call(self, invocation: Invocation) -> Reply:
        return await self.runtime.accept(invocation)


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_call_goes_through_over_its_link(scene: Scene) -> None:
    await scene.runtime.put_link(link())
    assert (await scene.call(call())).payload == b"hi"


async def test_a_call_waits_for_a_link_that_is_on_its_way(scene: Scene) -> None:
    early = asyncio.create_task(scene.call(call()))
    await asyncio.sleep(0)
    await scene.runtime.put_link(link("somebody-else"))
    await scene.runtime.put_link(link())
    assert (await early).payload == b"hi"


async def test_many_calls_wait_for_the_same_link(scene: Scene) -> None:
    early = [asyncio.create_task(scene.call(call())) for _ in range(50)]
    await asyncio.sleep(0)
    early[7].cancel()
    await scene.runtime.put_link(link())
    outcomes = await asyncio.gather(*early, return_exceptions=True)
    assert sum(isinstance(outcome, Reply) for outcome in outcomes) == 49


async def test_a_call_without_a_link_is_refused_after_the_grace(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINK_GRACE_S", 0.01)
    with pytest.raises(errors.NoLink):
        await scene.call(call())


async def test_a_call_whose_deadline_is_shorter_than_the_grace_hears_of_its_deadline(
    scene: Scene,
) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        await scene.call(call(timeout_s=0.01))


async def test_a_call_over_an_interface_that_the_link_leaves_out_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINK_GRACE_S", 0.01)
    await scene.runtime.put_link(link("tester", "store"))
    invocation = call()
    invocation.interface = "test:target/atomics"
    with pytest.raises(errors.NoLink):
        await scene.call(invocation)
    invocation.interface = "test:target/store"
    await scene.call(invocation)


@pytest.mark.parametrize("interface", ["", "bird", "a b", "x:"])
async def test_a_call_that_names_no_interface_is_refused(scene: Scene, interface: str) -> None:
    invocation = call()
    invocation.interface = interface
    with pytest.raises(errors.InvalidRequest):
        await scene.call(invocation)


async def test_a_refused_link_is_the_same_error_anew_for_every_call(scene: Scene) -> None:
    """One shared error gathered the tracebacks, and so the payloads, of every call."""
    await scene.runtime.put_link(link(refuse="no such cage"))
    seen = []
    for _ in range(3):
        with pytest.raises(errors.InvalidRequest, match="no such cage") as refusal:
            await scene.call(call())
        seen.append(refusal.value)
    assert len({id(error) for error in seen}) == 3
    kept = next(iter(scene.runtime._links._refusals.values()))
    depth, traceback = 0, kept.__traceback__
    while traceback is not None:
        depth, traceback = depth + 1, traceback.tb_next
    assert depth <= 3


async def test_a_link_that_is_put_again_with_another_config_replaces_the_refused_one(
    scene: Scene,
) -> None:
    await scene.runtime.put_link(link(refuse="no such cage"))
    await scene.runtime.put_link(link())
    assert (await scene.call(call())).payload == b"hi"


async def test_a_link_refused_for_what_may_pass_is_offered_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved to a host whose HTTP address was still in use, a server never listened there."""
    monkeypatch.setattr(sdk, "OFFER_AGAIN_S", 0.01)
    scene.parrot.is_perch_taken = True
    await scene.runtime.put_link(link())
    with pytest.raises(errors.AlreadyExists):
        await scene.call(call())
    scene.parrot.is_perch_taken = False

    await eventually(lambda: "tester" in scene.parrot.links)
    assert (await scene.call(call())).payload == b"hi"
    await eventually(lambda: not len(scene.runtime._tasks))


async def test_a_link_that_is_wrong_in_itself_is_not_offered_again(scene: Scene) -> None:
    await scene.runtime.put_link(link(refuse="no such cage"))

    assert len(scene.runtime._tasks) == 0


async def test_every_link_is_offered_again_under_a_changed_configuration(scene: Scene) -> None:
    for source in ("tester", "other"):
        await scene.runtime.put_link(link(source))
    scene.parrot.links.clear()

    await scene.runtime.update_config({"colour": "blue"})
    assert sorted(scene.parrot.links) == ["other", "tester"]

    scene.parrot.links.clear()
    await scene.runtime.update_config({"colour": "blue"})
    assert scene.parrot.links == {}


async def test_a_link_that_a_changed_configuration_breaks_is_refused_until_it_works(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "OFFER_AGAIN_S", 0.01)
    await scene.runtime.put_link(link())
    scene.parrot.is_perch_taken = True
    await scene.runtime.update_config({"colour": "blue"})
    with pytest.raises(errors.AlreadyExists):
        await scene.call(call())
    scene.parrot.links.clear()
    scene.parrot.is_perch_taken = False

    await eventually(lambda: "tester" in scene.parrot.links)
    assert (await scene.call(call())).payload == b"hi"


async def test_links_stay_as_they_are_when_a_configuration_is_refused(scene: Scene) -> None:
    await scene.runtime.put_link(link())
    scene.parrot.links.clear()

    await scene.runtime.update_config({"refuse": "no such colour"})
    assert scene.parrot.links == {}
    assert (await scene.call(call())).payload == b"hi"


async def test_a_link_deleted_and_put_again_behind_a_slow_one_is_there(scene: Scene) -> None:
    """The second put looked before its turn, found the link still there, and did nothing."""
    await scene.runtime.put_link(link())
    slow = asyncio.create_task(scene.runtime.put_link(link("slow", slow="1")))
    await asyncio.sleep(0)
    deleting = asyncio.create_task(scene.runtime.delete_link(link()))
    putting = asyncio.create_task(scene.runtime.put_link(link()))
    await asyncio.sleep(0)
    scene.parrot.gate.set()
    await asyncio.gather(slow, deleting, putting)
    assert sorted(scene.parrot.links) == ["slow", "tester"]
    assert (await scene.call(call())).payload == b"hi"


async def test_links_beyond_the_limit_are_ignored_but_known_ones_may_change(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "LINKS_MAX", 2)
    for source in ("a", "b", "c"):
        await scene.runtime.put_link(link(source))
    assert sorted(scene.parrot.links) == ["a", "b"]
    await scene.runtime.put_link(link("a", colour="red"))
    assert scene.parrot.links["a"].target_config == {"colour": "red"}


async def test_a_link_of_others_is_not_taken(scene: Scene) -> None:
    stranger = ResolvedLink(source_id="a", target="b", wit_namespace="test", wit_package="target")
    await scene.runtime.put_link(stranger)
    assert scene.parrot.links == {}


async def test_calls_count_from_their_arrival(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many may arrive before the first of them gets to run."""
    monkeypatch.setattr(sdk, "CALLS_MAX", 2)
    await scene.runtime.put_link(link())
    accepted = [scene.runtime.accept(call()) for _ in range(2)]
    with pytest.raises(errors.Overloaded):
        scene.runtime.accept(call())
    await asyncio.gather(*accepted)
    await scene.call(call())


async def test_a_provider_is_stopped_only_after_calls_that_had_arrived(scene: Scene) -> None:
    await scene.runtime.put_link(link())
    arrived = scene.runtime.accept(call("Parrot.Hold"))
    stopping = asyncio.create_task(scene.runtime.aclose(drain_s=10))
    await asyncio.sleep(0.01)
    assert not scene.parrot.stopped
    running = asyncio.ensure_future(arrived)
    scene.parrot.gate.set()
    assert (await running).payload == b"hi"
    await stopping
    assert scene.parrot.stopped


async def test_a_provider_that_hangs_in_its_end_is_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROVIDER_STOP_TIMEOUT_S", 0.01)
    scene.parrot.config = {"stop": "hang"}
    await scene.runtime.aclose(drain_s=0)


async def test_a_providers_own_timeout_is_not_taken_for_the_deadline(scene: Scene) -> None:
    await scene.runtime.put_link(link())

    async def handle(_: object) -> bytes:
        raise TimeoutError("its own")

    scene.parrot.handle = handle  # type: ignore[method-assign,assignment]
    with pytest.raises(TimeoutError, match="its own"):
        await scene.call(call())


@pytest.mark.parametrize(
    ("interfaces", "asked", "served"),
    [
        ([], "test:target", True),
        ([], "test:target/any", True),
        (["store"], "test:target", True),
        (["store"], "test:target/store@0.2.0", True),
        (["store"], "test:target/atomics", False),
        ([], "test:other", False),
        ([], "other:target", False),
    ],
)
def test_a_link_serves_its_package_and_the_interfaces_it_lists(
    interfaces: list[str], asked: str, served: bool
) -> None:
    assert serves(link("tester", *interfaces), names.parse_interface(asked)) is served


def test_a_book_forgets_a_link_and_its_refusal() -> None:
    book = LinkBook("bird")
    book.put(link(), errors.InvalidRequest("no"))
    assert book.delete(link().key) == link()
    assert book.delete(link().key) is None
    assert len(book) == 0
    assert book._refusals == {}
