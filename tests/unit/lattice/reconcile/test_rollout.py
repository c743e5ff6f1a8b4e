"""Rollouts: host by host, through the gate, and back when something is wrong."""

from dataclasses import replace

from lattice.reconcile.model import ScaleComponent, StartProvider, Status, StopProvider
from tests.support.simulated_lattice import SimulatedLattice
from tests.unit.lattice.reconcile.manifests import actor, app, provider

OLD, NEW = "file:///old.wasm", "file:///new.wasm"


def running(*hosts: str, instances: int = 3) -> SimulatedLattice:
    """A lattice in which the old version of an actor runs."""
    world = SimulatedLattice()
    for host in hosts:
        world.add_host(host)
    world.deploy(app(actor(image=OLD, instances=instances)))
    world.run(2)
    assert world.memory.apps["shop"].stable == "v1"
    world.sent.clear()
    return world


def status_of(world: SimulatedLattice) -> Status:
    return world.statuses["shop"].status


def told(world: SimulatedLattice) -> list[str]:
    return [step.command.host for step in world.sent if isinstance(step.command, ScaleComponent)]


def test_a_new_image_goes_to_one_host_after_the_other() -> None:
    world = running("a", "b", "c")
    world.deploy(app(actor(image=NEW, instances=3)), "v2")

    world.run(4)
    assert told(world) == ["a"]
    assert status_of(world) is Status.RECONCILING
    assert world.statuses["shop"].message == "Rolling out v2: 0 of 3 host(s)"
    world.run(5)
    assert told(world) == ["a", "b"]
    world.run(10)

    assert told(world) == ["a", "b", "c"]
    assert world.references("shop-counter") == {NEW}
    assert status_of(world) is Status.DEPLOYED
    assert world.memory.apps["shop"].stable == "v2"
    assert world.memory.apps["shop"].rollout is None


def test_a_rollout_says_when_it_wants_to_go_on() -> None:
    world = running("a", "b")
    world.deploy(app(actor(image=NEW, instances=3)), "v2")
    world.tick()
    world.tick()

    assert world.wake_at == world.now + 5


def test_more_hosts_at_once_when_the_manifest_says_so() -> None:
    world = running("a", "b", "c")
    world.deploy(app(actor(image=NEW, instances=3), **{"rollout-max-unavailable": "2"}), "v2")

    world.run(4)

    assert told(world) == ["a", "b"]


def test_at_once_means_everywhere_and_unwatched() -> None:
    world = running("a", "b", "c")
    world.deploy(app(actor(image=NEW, instances=3), rollout="at-once"), "v2")

    world.tick()

    assert told(world) == ["a", "b", "c"]


def test_failing_calls_bring_the_old_version_back() -> None:
    world = running("a", "b", "c")
    world.deploy(app(actor(image=NEW, instances=3)), "v2")
    world.run(2)
    world.fail_calls("shop-counter", "a", 1)

    world.run(5)

    assert world.references("shop-counter") == {OLD}
    status = world.statuses["shop"]
    assert status.status is Status.FAILED
    assert status.message == (
        "Version v2 failed, rolled back to v1: 1 call(s) of shop-counter failed on a"
    )
    assert status.version == "v1"
    assert set(told(world)) == {"a"}
    world.run(60)
    assert world.references("shop-counter") == {OLD}


def test_as_many_failures_as_are_allowed_bring_nothing_back() -> None:
    world = running("a")
    world.deploy(app(actor(image=NEW, instances=3), **{"rollout-failures-allowed": "2"}), "v2")
    world.run(2)
    world.fail_calls("shop-counter", "a", 2)
    world.run(10)

    assert world.references("shop-counter") == {NEW}
    assert status_of(world) is Status.DEPLOYED


def test_failures_of_the_old_version_are_not_the_new_ones() -> None:
    world = running("a")
    world.fail_calls("shop-counter", "a", 100)
    world.deploy(app(actor(image=NEW, instances=3)), "v2")

    world.run(10)

    assert world.references("shop-counter") == {NEW}


def test_a_version_that_no_host_can_run_is_given_up() -> None:
    world = running("a", "b")
    world.broken.add(NEW)
    world.deploy(app(actor(image=NEW, instances=3)), "v2")

    world.run(15)

    assert world.references("shop-counter") == {OLD}
    assert "no such image" in world.statuses["shop"].message
    assert set(told(world)) == {"a"}


def test_a_version_that_does_not_come_up_in_time_is_given_up() -> None:
    world = running("a", "b")
    world.losing = True
    world.deploy(app(actor(image=NEW, instances=3), **{"rollout-deadline-seconds": "30"}), "v2")

    world.run(32)

    assert status_of(world) is Status.FAILED
    assert "not up and well on a after 30 s" in world.statuses["shop"].message


def test_deploying_again_gives_a_version_another_chance() -> None:
    world = running("a")
    world.broken.add(NEW)
    manifest = app(actor(image=NEW, instances=3))
    world.deploy(manifest, "v2")
    world.run(15)
    assert status_of(world) is Status.FAILED
    world.broken.clear()

    world.apps["shop"] = replace(world.apps["shop"], generation=9)
    world.run(15)

    assert world.references("shop-counter") == {NEW}
    assert status_of(world) is Status.DEPLOYED


def test_another_leader_goes_on_where_the_first_one_stopped() -> None:
    # Every tick of the simulation is another leader's: it reads the memory from its stored form.
    world = running("a", "b")
    world.deploy(app(actor(image=NEW, instances=3)), "v2")
    world.run(3)
    rollout = world.memory.apps["shop"].rollout
    assert rollout is not None
    assert rollout.hosts == ["a"]

    world.run(20)

    assert told(world) == ["a", "b"]


def test_a_host_that_dies_amid_its_turn_does_not_fail_the_version() -> None:
    world = running("a", "b", "c")
    world.deploy(app(actor(image=NEW, instances=3)), "v2")
    world.run(2)
    world.kill("a")

    world.run(30)

    assert world.references("shop-counter") == {NEW}
    assert status_of(world) is Status.DEPLOYED
    assert sum(world.counts("shop-counter").values()) == 3


def test_a_provider_is_replaced_where_it_ran() -> None:
    world = SimulatedLattice()
    for host in ("a", "b", "c"):
        world.add_host(host)
    world.deploy(app(provider(image="file:///one", instances=2)))
    world.run(2)
    homes = world.running("shop-kv")
    world.sent.clear()

    world.deploy(app(provider(image="file:///two", instances=2)), "v2")
    for _ in range(60):
        world.tick()
        world.now += 0.5
        # Never more than one is away.
        assert len(world.running("shop-kv")) >= 1

    assert world.running("shop-kv") == homes
    assert [type(step.command) for step in world.sent] == [StopProvider, StartProvider] * 2
    assert status_of(world) is Status.DEPLOYED


def test_a_provider_that_is_not_healthy_holds_the_rollout_and_then_ends_it() -> None:
    world = SimulatedLattice()
    world.add_host("a")
    world.deploy(app(provider(image="file:///one")))
    world.run(2)
    world.deploy(app(provider(image="file:///two"), **{"rollout-deadline-seconds": "20"}), "v2")
    world.run(2)
    copy = world.hosts["a"].providers["shop-kv"]
    assert copy.reference == "file:///two"
    world.hosts["a"].providers["shop-kv"] = replace(copy, healthy=False)

    world.run(30)

    assert world.hosts["a"].providers["shop-kv"].reference == "file:///one"
    assert "not up and well" in world.statuses["shop"].message


def test_a_config_with_other_values_goes_through_the_gate_and_back() -> None:
    world = SimulatedLattice()
    world.add_host("a")
    world.deploy(app(actor(config={"c": {"k": "old"}})))
    world.run(2)
    world.deploy(app(actor(config={"c": {"k": "new"}})), "v2")
    world.run(2)
    assert world.configs["shop-c"] == {"k": "new"}
    world.fail_calls("shop-counter", "a", 3)

    world.run(3)

    assert world.configs["shop-c"] == {"k": "old"}
    assert status_of(world) is Status.FAILED


def test_another_list_of_configs_is_rolled_too() -> None:
    world = SimulatedLattice()
    for host in ("a", "b"):
        world.add_host(host)
    world.deploy(app(actor(instances=2, config={"c": {"k": "v"}})))
    world.run(2)
    world.sent.clear()
    world.deploy(app(actor(instances=2, config={"c": {"k": "v"}, "d": {"l": "w"}})), "v2")

    world.run(4)
    assert told(world) == ["a"]
    world.run(20)
    assert told(world) == ["a", "b"]
    assert status_of(world) is Status.DEPLOYED


def test_what_the_new_version_has_no_more_stays_until_the_rollout_is_over() -> None:
    world = SimulatedLattice()
    for host in ("a", "b"):
        world.add_host(host)
    world.deploy(app(actor(image=OLD, instances=2), provider()))
    world.run(2)
    world.deploy(app(actor(image=NEW, instances=2)), "v2")

    world.run(4)
    assert world.running("shop-kv")
    world.run(20)

    assert not world.running("shop-kv")
    assert status_of(world) is Status.DEPLOYED


def test_a_version_that_overtakes_another_leaves_no_host_behind() -> None:
    world = running("a", "b", "c")
    world.deploy(app(actor(image=NEW, instances=3)), "v2")
    world.run(3)
    world.sent.clear()
    world.deploy(app(actor(image="file:///newest.wasm", instances=3)), "v3")

    world.run(30)

    assert world.references("shop-counter") == {"file:///newest.wasm"}
    assert told(world) == ["a", "b", "c"]


def test_going_back_by_hand_amid_a_rollout_is_done_at_once() -> None:
    world = running("a", "b", "c")
    world.deploy(app(actor(image=NEW, instances=3)), "v2")
    world.run(8)
    world.deploy(app(actor(image=OLD, instances=3)), "v1")

    world.run(2)

    assert world.references("shop-counter") == {OLD}
    assert status_of(world) is Status.DEPLOYED


def test_a_provider_comes_back_where_it_was_though_another_host_is_idle() -> None:
    world = SimulatedLattice()
    world.add_host("a")
    world.deploy(app(provider(image="file:///one"), actor(instances=1)))
    world.run(2)
    world.add_host("idle")
    world.deploy(app(provider(image="file:///two"), actor(instances=1)), "v2")

    world.run(10)

    assert world.running("shop-kv") == {"a"}
    assert status_of(world) is Status.DEPLOYED


def test_a_host_that_joins_amid_a_rollout_gets_what_has_stood_the_test() -> None:
    world = running("a", "b", "c")
    world.deploy(app(actor(image=NEW, instances=8)), "v2")
    world.run(3)
    world.add_host("d")
    world.tick()
    assert world.hosts["d"].components["shop-counter"].reference == OLD

    world.run(4)
    world.add_host("e")
    world.tick()

    assert world.hosts["e"].components["shop-counter"].reference == NEW
    assert world.statuses["shop"].message.startswith("Rolling out v2: 1 of 4 host(s)")
