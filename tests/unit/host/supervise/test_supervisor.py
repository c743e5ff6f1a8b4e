"""A provider kept running and told what it should know, with copies that the test controls."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from host.events import Events
from host.supervise import supervisor as supervising
from host.supervise.restarts import RestartPolicy
from host.supervise.supervisor import Knowledge, Supervisor
from lattice import errors, limits
from lattice.wire.control import StartProvider
from lattice.wire.provider import Health, HostData, ResolvedLink
from tests.support.eventually import eventually


def link(source: str, **config: str) -> ResolvedLink:
    return ResolvedLink(
        source_id=source,
        target="bird",
        wit_namespace="test",
        wit_package="target",
        target_config=config,
    )


class FakeCopy:
    """A copy that starts, ends and answers as the test says, and notes what it was told."""

    def __init__(self, scene: "Scene") -> None:
        self.scene = scene
        self.data: HostData
        self.heard: list[str] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.stopped = 0
        self.health_now: Health | None = Health(healthy=True)

    async def start(self, data: HostData) -> None:
        self.data = data
        if self.scene.failures:
            raise self.scene.failures.pop()
        self.scene.copies.append(self)

    async def put_link(self, link: ResolvedLink) -> None:
        self._hear(f"put {link.source_id} {link.target_config}")

    async def delete_link(self, link: ResolvedLink) -> None:
        self._hear(f"delete {link.source_id}")

    async def update_config(self, config: dict[str, str]) -> None:
        self._hear(f"config {config}")

    async def health(self) -> Health | None:
        return self.health_now

    async def wait_ended(self) -> str:
        return await asyncio.shield(self.ended)

    def last_facts(self) -> dict[str, object]:
        return {"exit_status": 4, "stderr": "Traceback: all is lost"}

    async def stop(self, *, drain_s: float) -> None:
        self.stopped += 1

    def _hear(self, what: str) -> None:
        if self.scene.deaf:
            self.scene.deaf -= 1
            raise errors.Unavailable("not connected")
        self.heard.append(what)


class FakeEvents:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.data: dict[str, dict[str, object]] = {}
        """Of the last event of each name."""

    async def publish(self, name: str, /, **data: object) -> None:
        self.names.append(name)
        self.data[name] = data

    async def publish_own(self, name: str, /, **data: object) -> None:
        await self.publish(name, **data)


class Scene:
    def __init__(self) -> None:
        self.copies: list[FakeCopy] = []
        self.failures: list[errors.LatticeError] = []
        self.deaf = 0
        self.links: list[ResolvedLink] = []
        self.config: dict[str, str] = {}
        self.events = FakeEvents()
        self.departed = 0
        self.supervisor = Supervisor(
            StartProvider(provider_id="bird", provider_ref="lattice+builtin://bird"),
            host_data=self._host_data,
            knowledge=lambda: Knowledge({link.key: link for link in self.links}, self.config),
            new_copy=self._new_copy,
            events=cast("Events", self.events),
            host_id="NHOST",
            restarts=RestartPolicy(restarts_max=5, pause_s=0.001),
            departed=self._departed,
        )

    async def _departed(self) -> None:
        self.departed += 1
        assert self.copy.stopped, "a copy that still runs is not gone"
        assert len(self.copies) == self.departed, "the next one is not there yet"

    async def _new_copy(self) -> FakeCopy:
        return FakeCopy(self)

    def know(self, *links: ResolvedLink, **config: str) -> None:
        self.links, self.config = list(links), config
        self.supervisor.refresh()

    @property
    def copy(self) -> FakeCopy:
        return self.copies[-1]

    def _host_data(self, knowledge: Knowledge) -> HostData:
        return HostData(
            host_id="NHOST",
            lattice_rpc_prefix="default",
            lattice_rpc_url="",
            provider_key="bird",
            instance_id="i",
            link_definitions=list(knowledge.links.values()),
            config=knowledge.config,
        )


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(supervising, "FIRST_HEALTH_S", 0.001)
    monkeypatch.setattr(supervising, "RETELL_DELAY_S", 0.001)
    monkeypatch.setattr(limits, "HEALTH_INTERVAL_S", 0.001)
    scene = Scene()
    yield scene
    await scene.supervisor.stop()


async def test_a_copy_starts_with_all_that_is_known(scene: Scene) -> None:
    scene.know(link("a"), colour="red")
    await scene.supervisor.start()
    assert scene.copy.data.link_definitions == [link("a")]
    assert scene.copy.data.config == {"colour": "red"}
    assert scene.copy.heard == []


async def test_only_differences_are_told_and_deletions_first(scene: Scene) -> None:
    scene.know(link("a"), link("b"), link("c"))
    await scene.supervisor.start()
    scene.know(link("b"), link("c", port="2"), link("d"), colour="red")
    await eventually(lambda: len(scene.copy.heard) == 4)
    assert scene.copy.heard == [
        "config {'colour': 'red'}",
        "delete a",
        "put c {'port': '2'}",
        "put d {}",
    ]


async def test_what_could_not_be_told_is_told_again(scene: Scene) -> None:
    await scene.supervisor.start()
    scene.deaf = 3
    scene.know(link("a"))
    await eventually(lambda: scene.copy.heard == ["put a {}"])


async def test_a_change_that_was_undone_meanwhile_is_not_told(scene: Scene) -> None:
    await scene.supervisor.start()
    scene.know(link("a"))
    scene.know()
    await asyncio.sleep(0.01)
    assert scene.copy.heard == []


async def test_a_copy_that_ended_is_replaced_and_its_end_told(scene: Scene) -> None:
    await scene.supervisor.start()
    first = scene.copy
    scene.know(link("a"))
    first.ended.set_result("it fell over")
    await eventually(lambda: len(scene.copies) == 2 and "provider_restarted" in scene.events.names)
    assert first.stopped == 1
    assert scene.copy.data.link_definitions == [link("a")]
    crash = scene.events.names.index("provider_crashed")
    assert crash < scene.events.names.index("provider_restarted")
    assert scene.departed == 1


async def test_a_restart_is_tried_until_it_works(scene: Scene) -> None:
    await scene.supervisor.start()
    scene.failures = [errors.ProviderError("not yet"), errors.Unavailable("nor yet")]
    scene.copy.ended.set_result("")
    await eventually(lambda: len(scene.copies) == 2)
    assert scene.events.names.count("provider_crashed") == 1


async def test_a_crash_is_told_with_all_that_is_known_of_it(scene: Scene) -> None:
    await scene.supervisor.start()
    assert scene.supervisor.crashes() is None
    scene.copy.ended.set_result("it fell over")
    await eventually(lambda: "provider_restarted" in scene.events.names)
    assert scene.events.data["provider_crashed"] == {
        "host_id": "NHOST",
        "provider_id": "bird",
        "reason": "it fell over",
        "exit_status": 4,
        "stderr": "Traceback: all is lost",
    }
    crashes = scene.supervisor.crashes()
    assert crashes is not None
    assert (crashes.state, crashes.count, crashes.reason) == ("running", 1, "it fell over")


async def test_a_provider_that_crashes_again_and_again_is_given_up_loudly(scene: Scene) -> None:
    await scene.supervisor.start()
    crashed: set[int] = set()

    def crash() -> bool:
        if len(scene.copies) not in crashed:
            crashed.add(len(scene.copies))
            scene.copy.ended.set_result("it fell over")
        return len(crashed) == 6

    await eventually(crash)
    await eventually(lambda: "provider_gave_up" in scene.events.names)
    assert scene.supervisor.is_given_up
    assert len(scene.copies) == 6
    assert scene.copy.stopped == 1
    assert scene.events.data["provider_gave_up"] == {
        "host_id": "NHOST",
        "provider_id": "bird",
        "crashes": 6,
        "reason": "it fell over",
    }
    crashes = scene.supervisor.crashes()
    assert crashes is not None
    assert (crashes.state, crashes.count, crashes.backoff_ms) == ("given_up", 6, 0)
    scene.know(link("a"))
    await scene.supervisor.stop()
    assert len(scene.supervisor._tasks) == 0


async def test_restarts_that_fail_count_as_crashes(scene: Scene) -> None:
    await scene.supervisor.start()
    scene.failures = [errors.ProviderError("no such feather")] * 9
    scene.copy.ended.set_result("it fell over")
    await eventually(lambda: scene.supervisor.is_given_up)
    await eventually(lambda: "provider_gave_up" in scene.events.names)
    assert scene.events.data["provider_gave_up"]["reason"] == "no such feather"
    assert len(scene.failures) == 4


async def test_a_provider_is_not_given_up_because_nats_is_away(scene: Scene) -> None:
    await scene.supervisor.start()
    scene.failures = [errors.Unavailable("not connected")] * 9
    scene.copy.ended.set_result("it fell over")
    await eventually(lambda: len(scene.copies) == 2)
    assert not scene.supervisor.is_given_up


async def test_a_first_start_that_fails_is_the_callers_to_know(scene: Scene) -> None:
    scene.failures = [errors.ProviderError("no")]
    with pytest.raises(errors.ProviderError):
        await scene.supervisor.start()
    assert len(scene.supervisor._tasks) == 0


async def test_silence_in_a_row_replaces_the_copy(scene: Scene) -> None:
    await scene.supervisor.start()
    first = scene.copy
    await eventually(lambda: "health_check_passed" in scene.events.names)
    first.health_now = None
    await eventually(lambda: len(scene.copies) == 2)
    assert first.stopped == 1
    assert scene.events.names.count("health_check_failed") == 1


async def test_a_copy_that_says_it_is_ill_is_not_replaced(scene: Scene) -> None:
    await scene.supervisor.start()
    scene.copy.health_now = Health(healthy=False)
    await eventually(lambda: scene.events.names.count("health_check_status") >= 5)
    assert len(scene.copies) == 1
    assert scene.events.names.count("health_check_failed") == 1


async def test_a_copy_that_could_not_be_asked_is_not_taken_for_silent(scene: Scene) -> None:
    """While NATS was away every provider process was killed for not answering."""
    await scene.supervisor.start()
    asked = 0

    async def health() -> Health | None:
        nonlocal asked
        asked += 1
        raise errors.Unavailable("not connected to NATS")

    scene.copy.health = health  # type: ignore[method-assign]
    await eventually(lambda: asked >= 10)
    assert len(scene.copies) == 1
    assert "health_check_failed" not in scene.events.names


async def test_a_new_copy_is_not_blamed_for_the_silence_of_the_one_before(scene: Scene) -> None:
    await scene.supervisor.start()
    first = scene.copy
    first.health_now = None
    await eventually(lambda: scene.events.names.count("health_check_failed") == 1)
    first.ended.set_result("it fell over")
    await eventually(lambda: len(scene.copies) == 2)
    await eventually(lambda: "health_check_passed" in scene.events.names)
    assert scene.events.names.count("provider_crashed") == 1


async def test_an_answer_between_silences_starts_the_count_anew(scene: Scene) -> None:
    await scene.supervisor.start()
    answers = [None, None, Health(healthy=True)] * 3

    async def health() -> Health | None:
        return answers.pop() if answers else Health(healthy=True)

    scene.copy.health = health  # type: ignore[method-assign]
    await eventually(lambda: not answers)
    assert len(scene.copies) == 1


async def test_stopping_ends_the_copy_and_every_task(scene: Scene) -> None:
    await scene.supervisor.start()
    await scene.supervisor.stop()
    await scene.supervisor.stop()
    assert scene.copy.stopped == 1
    assert scene.departed == 1
    assert len(scene.supervisor._tasks) == 0


async def test_stopping_while_a_copy_is_being_ended_ends_it_all_the_same(scene: Scene) -> None:
    await scene.supervisor.start()
    copy = scene.copy
    ending = asyncio.Event()

    async def slow_stop(*, drain_s: float) -> None:
        copy.stopped += 1
        if copy.stopped == 1:
            ending.set()
            await asyncio.Event().wait()

    copy.stop = slow_stop  # type: ignore[method-assign]
    copy.health_now = None
    await ending.wait()
    await scene.supervisor.stop()
    assert copy.stopped == 2
