"""Decisions, on a lattice that is simulated: hosts obey late, never, or die."""

from dataclasses import replace

from lattice.manifest import APP_ANNOTATION, MANAGED_BY, MANAGED_BY_ANNOTATION
from lattice.reconcile import attempts, planning
from lattice.reconcile.model import (
    App,
    DeleteConfig,
    DeleteLink,
    Observed,
    ObservedComponent,
    ObservedProvider,
    PutConfig,
    PutLink,
    ScaleComponent,
    StartProvider,
    Status,
    StopProvider,
)
from lattice.wire.control import Link
from tests.support.simulated_lattice import SimulatedLattice, commands
from tests.unit.lattice.reconcile.manifests import actor, app, link, provider


def lattice(*hosts: str) -> SimulatedLattice:
    simulated = SimulatedLattice()
    for host in hosts:
        simulated.add_host(host)
    return simulated


def test_a_deployed_app_comes_to_run_and_then_nothing_is_done_any_more() -> None:
    world = lattice("a", "b")
    world.deploy(
        app(
            actor(instances=4, config={"greeting": {"text": "hi"}}, links=[link("kv")]),
            provider(),
        )
    )

    world.run(5)

    assert world.counts("shop-counter") == {"a": 2, "b": 2}
    assert len(world.running("shop-kv")) == 1
    assert [kept.target for kept in world.links.values()] == ["shop-kv"]
    assert world.configs == {"shop-greeting": {"text": "hi"}}
    assert world.statuses["shop"].status is Status.DEPLOYED
    assert world.statuses["shop"].version == "v1"
    assert world.tick() == []
    assert world.wake_at is None


def test_what_runs_is_marked_as_wadm_marks_it() -> None:
    world = lattice("a")
    world.deploy(app(actor()))

    world.run(1)

    annotations = world.hosts["a"].components["shop-counter"].annotations
    assert annotations[MANAGED_BY_ANNOTATION] == MANAGED_BY
    assert annotations[APP_ANNOTATION] == "shop"
    assert annotations["wasmcloud.dev/spread_name"] == "default"


def test_configs_come_before_what_uses_them() -> None:
    world = lattice("a")
    world.deploy(app(actor(config={"greeting": {"text": "hi"}})))

    assert [type(command) for command in commands(world.tick())] == [PutConfig]
    assert [type(command) for command in commands(world.tick())] == [ScaleComponent]


def test_a_config_that_somebody_else_keeps_must_be_there() -> None:
    world = lattice("a")
    world.deploy(app(actor(config={"theirs": None})))
    world.run(1)

    status = world.statuses["shop"]
    assert status.status is Status.FAILED
    assert "Specified configuration theirs does not exist" in status.message
    assert world.sent == []

    world.configs["theirs"] = {}
    world.run(1)

    assert world.statuses["shop"].status is Status.DEPLOYED


def test_a_command_is_not_repeated_until_its_time_is_up() -> None:
    world = lattice("a")
    world.losing = True
    world.deploy(app(actor(), provider()))

    world.run(4.9)
    assert len(world.sent) == 2

    world.run(5)
    assert len(world.sent) == 3
    # Ever more rarely.
    world.run(15)
    assert sum(isinstance(step.command, ScaleComponent) for step in world.sent) == 3
    world.losing = False
    world.run(90)
    assert world.statuses["shop"].status is Status.DEPLOYED


def test_a_refusal_is_told_and_tried_again_ever_more_rarely() -> None:
    world = lattice("a")
    world.broken.add("file:///counter.wasm")
    world.deploy(app(actor()))

    world.run(10)

    status = world.statuses["shop"]
    assert status.status is Status.FAILED
    assert "no such image" in status.message
    tries = len(world.sent)
    assert 3 <= tries <= 6
    world.broken.clear()
    world.run(60)
    assert world.statuses["shop"].status is Status.DEPLOYED


def test_an_actor_that_was_scaled_by_hand_is_scaled_back() -> None:
    world = lattice("a")
    world.deploy(app(actor(instances=3)))
    world.run(2)
    copy = world.hosts["a"].components["shop-counter"]
    world.hosts["a"].components["shop-counter"] = replace(copy, count=7)

    steps = world.tick()

    assert [step.reason for step in steps] == [
        "shop-counter has 7 instance(s) on a and shall have 3."
    ]
    assert world.count("shop-counter", "a") == 3


def test_a_link_that_was_deleted_by_hand_is_put_again() -> None:
    world = lattice("a")
    world.deploy(app(actor(links=[link("kv")]), provider()))
    world.run(2)
    world.links.clear()

    assert [type(command) for command in commands(world.tick())] == [PutLink]


def test_a_link_is_put_again_when_a_config_of_it_changed() -> None:
    world = lattice("a")
    manifest = app(actor(links=[link("kv", config={"url": {"url": "redis://one"}})]), provider())
    world.deploy(manifest)
    world.run(2)
    world.sent.clear()

    world.deploy(manifest.replace("redis://one", "redis://two"), "v2")
    world.run(2)

    assert [type(step.command) for step in world.sent] == [PutConfig, PutLink]
    assert world.statuses["shop"].status is Status.DEPLOYED


def test_a_link_that_could_not_be_put_again_is_put_again_later() -> None:
    world = lattice("a")
    manifest = app(actor(links=[link("kv", config={"url": {"url": "redis://one"}})]), provider())
    world.deploy(manifest)
    world.run(2)
    world.deploy(manifest.replace("redis://one", "redis://two"), "v2")
    world.tick()
    [put] = [step for step in world.tick() if isinstance(step.command, PutLink)]
    world.memory = planning.failed(world.memory, put.command.key, "no host", world.now)

    assert world.tick() == []
    world.now += 1.5
    assert [type(command) for command in commands(world.tick())] == [PutLink]


def test_a_link_to_another_target_replaces_the_one_before() -> None:
    world = lattice("a")
    world.deploy(app(actor(links=[link("kv")]), provider(), provider("other")))
    world.run(2)
    world.sent.clear()

    world.deploy(app(actor(links=[link("other")]), provider(), provider("other")), "v2")
    world.run(2)

    assert [type(step.command) for step in world.sent] == [DeleteLink, PutLink]
    assert [kept.target for kept in world.links.values()] == ["shop-other"]


def test_a_link_that_somebody_else_put_is_not_deleted() -> None:
    world = lattice("a")
    theirs = Link(
        source_id="shop-counter", target="x", wit_namespace="wasmcloud", wit_package="keyvalue"
    )
    world.links[theirs.order] = theirs
    world.deploy(app(actor(links=[link("kv")]), provider()))

    world.run(5)

    assert world.statuses["shop"].status is Status.FAILED
    assert "Somebody else put a link in its place" in world.statuses["shop"].message
    assert list(world.links.values()) == [theirs]


def test_instances_move_evenly_when_a_host_joins_and_never_get_fewer() -> None:
    world = lattice("a")
    world.deploy(app(actor(instances=6)))
    world.run(2)
    world.add_host("b")
    world.delay_s = 1
    world.add_host("c")

    for _ in range(20):
        world.tick()
        world.now += 0.25
        assert sum(world.counts("shop-counter").values()) >= 6

    assert world.counts("shop-counter") == {"a": 2, "b": 2, "c": 2}


def test_what_a_dead_host_ran_runs_elsewhere() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(instances=4), provider()))
    world.run(2)
    [home] = world.running("shop-kv")
    world.kill(home)
    [other] = {"a", "b"} - {home}

    world.tick()

    assert world.counts("shop-counter") == {other: 4}
    assert world.running("shop-kv") == {other}


def test_a_suspect_host_keeps_what_it_has_and_is_told_nothing() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(instances=4), provider()))
    world.run(2)
    world.hosts["b"].state = "suspect"

    assert world.tick() == []
    world.deploy(app(actor(instances=1), provider()), "v2")
    world.run(5)

    assert world.counts("shop-counter") == {"a": 1, "b": 2}


def test_a_draining_host_is_emptied_once_others_have_taken_over() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(instances=4), provider()))
    world.run(2)
    [home] = world.running("shop-kv")
    world.hosts[home].draining = True
    world.delay_s = 1

    for _ in range(20):
        world.tick()
        world.now += 0.25
        assert sum(world.counts("shop-counter").values()) >= 4
        assert world.running("shop-kv")

    assert world.count("shop-counter", home) == 0
    assert home not in world.running("shop-kv")


def test_weights_and_requirements_say_how_many_run_where() -> None:
    world = SimulatedLattice()
    for host, zone in (("a", "eu"), ("b", "eu"), ("c", "us"), ("d", "asia")):
        world.add_host(host, zone=zone)
    world.deploy(
        app(
            actor(
                instances=10,
                spread=[
                    {"name": "eu", "weight": 80, "requirements": {"zone": "eu"}},
                    {"name": "us", "weight": 20, "requirements": {"zone": "us"}},
                ],
            )
        )
    )

    world.run(2)

    assert world.counts("shop-counter") == {"a": 4, "b": 4, "c": 2, "d": 0}
    copy = world.hosts["c"].components["shop-counter"]
    assert copy.annotations["wasmcloud.dev/spread_name"] == "us"


def test_a_spread_without_hosts_is_told_in_wadms_words_and_the_others_run() -> None:
    world = SimulatedLattice()
    world.add_host("a", zone="eu")
    spread = [
        {"name": "eu", "requirements": {"zone": "eu"}},
        {"name": "moon", "requirements": {"zone": "moon"}},
    ]
    world.deploy(app(actor(instances=4, spread=spread)))

    world.run(2)

    assert world.counts("shop-counter") == {"a": 2}
    assert world.statuses["shop"].status is Status.FAILED
    assert (
        "Could not satisfy spread moon for file:///counter.wasm, 0/1 eligible hosts found."
        in world.statuses["shop"].message
    )


def test_a_daemon_runs_on_every_host_that_its_labels_take() -> None:
    world = SimulatedLattice()
    world.add_host("a", disk="ssd")
    world.add_host("b", disk="hdd")
    world.add_host("c", disk="ssd")
    spread = [{"name": "fast", "requirements": {"disk": "ssd"}}]
    world.deploy(
        app(
            actor(instances=3, daemon=True, spread=spread),
            provider(instances=1, daemon=True, spread=spread),
        )
    )
    world.run(2)

    assert world.counts("shop-counter") == {"a": 3, "b": 0, "c": 3}
    assert world.running("shop-kv") == {"a", "c"}

    world.hosts["a"].labels["disk"] = "hdd"
    world.hosts["b"].labels["disk"] = "ssd"
    world.run(2)

    assert world.counts("shop-counter") == {"a": 0, "b": 3, "c": 3}
    assert world.running("shop-kv") == {"b", "c"}


def test_a_provider_runs_once_per_host() -> None:
    world = lattice("a", "b", "c")
    world.deploy(app(provider(instances=2)))
    world.run(2)

    assert len(world.running("shop-kv")) == 2

    world.deploy(app(provider(instances=5)), "v2")
    world.run(2)

    assert world.running("shop-kv") == {"a", "b", "c"}
    assert "3/5 eligible hosts found" in world.statuses["shop"].message


def test_a_provider_that_was_given_up_is_started_again_but_not_before_a_long_pause() -> None:
    world = lattice("a")
    world.deploy(app(provider(instances=1)))
    world.run(2)
    starts = len(world.sent)
    world.give_up("shop-kv", "a")

    world.run(attempts.PAUSE_S_MAX - 5)
    assert len(world.sent) == starts
    told = world.statuses["shop"]
    assert told.status is Status.FAILED
    assert "it crashed" in told.message

    world.run(10)
    assert len(world.sent) == starts + 1
    assert world.running("shop-kv") == {"a"}
    assert world.statuses["shop"].status is Status.DEPLOYED


def test_a_provider_that_was_given_up_runs_on_another_host_if_there_is_one() -> None:
    world = lattice("a", "b")
    world.deploy(app(provider(instances=1)))
    world.run(2)
    (first,) = world.running("shop-kv")
    world.give_up("shop-kv", first)
    world.run(5)

    assert world.running("shop-kv") == {"a", "b"} - {first}
    assert world.statuses["shop"].status is Status.DEPLOYED


def test_undeploying_takes_away_a_provider_that_was_given_up() -> None:
    world = lattice("a")
    world.deploy(app(provider(instances=1)))
    world.run(2)
    world.give_up("shop-kv", "a")
    world.run(2)
    world.undeploy("shop")
    world.run(2)

    assert world.hosts["a"].providers == {}


def test_undeploying_takes_away_everything_of_the_app_and_nothing_else() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(config={"c": {"k": "v"}}, links=[link("kv")]), provider()))
    world.run(3)
    world.hosts["a"].components["mine"] = ObservedComponent(reference="file:///x", count=1)
    world.hosts["a"].providers["mine-too"] = ObservedProvider(reference="file:///y")
    other = Link(source_id="p", target="q", wit_namespace="n", wit_package="p")
    world.links[other.order] = other
    world.configs["mine"] = {}

    world.undeploy("shop")
    world.run(3)

    assert world.statuses["shop"].status is Status.UNDEPLOYED
    assert world.statuses["shop"].gone
    assert world.hosts["a"].components.keys() == {"mine"}
    assert world.hosts["a"].providers.keys() == {"mine-too"}
    assert world.links.keys() == {other.order}
    assert world.configs == {"mine": {}}


def test_a_deleted_app_stays_deleted_when_a_host_returns_with_parts_of_it() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(instances=2), provider(instances=2)))
    world.run(3)
    away = world.hosts.pop("b")
    world.undeploy("shop", delete=True)
    world.run(3)
    assert world.statuses["shop"].gone
    del world.apps["shop"]
    world.run(3)

    world.hosts["b"] = away
    world.run(3)

    assert not away.components
    assert not away.providers


def test_an_app_whose_record_is_missing_is_left_as_it_is() -> None:
    world = lattice("a")
    world.deploy(app(actor(), provider()))
    world.run(3)
    world.apps.clear()

    assert world.tick() == []


def test_an_app_that_cannot_be_read_is_left_as_it_is() -> None:
    world = lattice("a")
    world.deploy(app(actor(), provider()))
    world.run(3)
    world.apps["shop"] = App(name="shop", generation=2, error="version v2 can't be deployed")

    assert world.tick() == []
    assert world.statuses["shop"].status is Status.FAILED


def test_an_empty_observation_stops_nothing_and_forgets_nothing() -> None:
    world = lattice("a")
    world.deploy(app(actor(links=[link("kv")]), provider()))
    world.run(3)
    world.undeploy("shop")

    decision = planning.decide(list(world.apps.values()), Observed(), world.memory, world.now)

    assert decision.steps == []
    assert not decision.statuses["shop"].gone
    assert decision.memory.apps["shop"].links


def test_what_nobody_marked_is_left_alone_and_said_to_be_in_the_way() -> None:
    world = lattice("a")
    theirs = ObservedComponent(reference="file:///other.wasm", count=1)
    world.hosts["a"].components["shop-counter"] = theirs
    world.deploy(app(actor()))

    world.run(3)

    assert world.sent == []
    assert "shop-counter is run by somebody else on a" in world.statuses["shop"].message


def test_an_actor_of_the_same_image_that_was_started_by_hand_is_taken_over() -> None:
    world = lattice("a")
    by_hand = ObservedComponent(reference="file:///counter.wasm", count=1)
    world.hosts["a"].components["shop-counter"] = by_hand
    world.deploy(app(actor()))

    world.run(3)

    annotations = world.hosts["a"].components["shop-counter"].annotations
    assert annotations[APP_ANNOTATION] == "shop"
    assert world.statuses["shop"].status is Status.DEPLOYED


def test_marks_that_a_host_does_not_take_are_let_be() -> None:
    world = lattice("a")
    world.deploy(app(actor()))
    world.losing = True
    by_hand = ObservedComponent(reference="file:///counter.wasm", count=1)
    world.hosts["a"].components["shop-counter"] = by_hand

    world.run(60)

    assert len(world.sent) == 2
    assert world.statuses["shop"].status is Status.DEPLOYED


def test_what_a_wadm_deployed_is_taken_over_as_it_runs() -> None:
    world = lattice("a")
    world.deploy(app(actor(instances=2), provider()))
    world.run(3)
    world.memory = type(world.memory)()

    assert world.tick() == []
    assert world.statuses["shop"].status is Status.DEPLOYED


def test_two_apps_that_want_the_same_id_do_not_fight() -> None:
    world = lattice("a")
    world.deploy(app(provider(entity="http", image="file:///one"), name="first"))
    world.run(2)
    world.deploy(app(provider(entity="http", image="file:///two"), name="another"))
    world.run(3)

    assert world.hosts["a"].providers["http"].reference == "file:///one"
    assert world.statuses["first"].status is Status.DEPLOYED
    assert world.statuses["another"].status is Status.FAILED
    assert "The id http belongs to app first" in world.statuses["another"].message


def test_two_apps_may_share_a_provider_by_its_id_as_under_wadm() -> None:
    world = lattice("a")
    world.deploy(app(provider(entity="http"), name="first"))
    world.deploy(app(provider(entity="http"), name="second"))
    world.run(3)

    assert sum(isinstance(step.command, StartProvider) for step in world.sent) == 1
    assert world.statuses["second"].status is Status.DEPLOYED

    world.undeploy("first")
    world.run(3)

    assert world.running("http") == {"a"}
    assert world.statuses["second"].status is Status.DEPLOYED


def test_a_component_of_an_app_that_is_not_deployed_is_named() -> None:
    world = lattice("a")
    shared = {
        "name": "theirs",
        "type": "capability",
        "properties": {"application": {"name": "platform", "component": "kv"}},
    }
    world.deploy(app(actor(links=[link("theirs")]), shared))
    world.run(2)

    assert world.statuses["shop"].status is Status.FAILED
    assert "not deployed: theirs" in world.statuses["shop"].message
    assert [kept.target for kept in world.links.values()] == ["platform-kv"]


def test_an_unhealthy_provider_makes_the_app_unhealthy() -> None:
    world = lattice("a")
    world.deploy(app(provider()))
    world.run(2)
    copy = world.hosts["a"].providers["shop-kv"]
    world.hosts["a"].providers["shop-kv"] = replace(copy, healthy=False)

    assert world.tick() == []
    assert world.statuses["shop"].status is Status.UNHEALTHY
    assert world.statuses["shop"].message == "Unhealthy provider on 1 host(s)"


def test_without_any_host_an_app_waits() -> None:
    world = SimulatedLattice()
    world.deploy(app(actor()))

    assert world.tick() == []
    assert world.statuses["shop"].status is Status.WAITING


def test_a_host_that_cannot_start_something_does_not_keep_it_from_running() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(instances=4)))
    real = world._scale

    def scale(host: object, command: ScaleComponent) -> None:
        if command.host == "b":
            world._refuse(command)
        else:
            real(world.hosts[command.host], command)

    world._scale = scale  # type: ignore[method-assign]
    world.run(60)

    assert world.counts("shop-counter") == {"a": 4, "b": 0}
    world._scale = real  # type: ignore[method-assign]
    world.run(400)
    assert world.counts("shop-counter") == {"a": 2, "b": 2}


def test_a_preview_says_all_that_would_change_and_why() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(instances=2, config={"c": {"k": "1"}}), provider()))
    world.run(3)
    before = world.memory
    other = SimulatedLattice()
    other.deploy(
        app(
            actor(image="file:///new.wasm", instances=2, config={"c": {"k": "2"}}),
            provider("kv2"),
        ),
        "v2",
    )

    steps = planning.preview(
        other.apps["shop"], list(world.apps.values()), world.observe(), world.memory, world.now
    )

    assert {type(step.command) for step in steps} == {
        PutConfig,
        ScaleComponent,
        StartProvider,
        StopProvider,
    }
    assert "shop-counter runs file:///counter.wasm on a and shall run file:///new.wasm." in {
        step.reason for step in steps
    }
    assert world.memory == before


def test_a_preview_of_what_runs_is_empty() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(instances=2, links=[link("kv")]), provider()))
    world.run(3)

    steps = planning.preview(
        world.apps["shop"], list(world.apps.values()), world.observe(), world.memory, world.now
    )

    assert steps == []


def test_what_moves_is_started_there_before_it_is_stopped_here() -> None:
    world = lattice("a")
    world.deploy(app(actor(instances=6), provider()))
    world.run(2)
    world.add_host("b")

    assert [step.reason for step in world.tick()] == [
        "shop-counter shall have 3 instance(s) on b and has none."
    ]
    assert [step.reason for step in world.tick()] == [
        "shop-counter has 6 instance(s) on a and shall have 3."
    ]


def test_what_a_dead_host_is_remembered_to_have_run_counts_for_nothing() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(instances=4), provider(instances=2)))
    world.run(2)
    world.hosts["b"].state = "dead"

    world.tick()

    assert world.count("shop-counter", "a") == 4


def test_an_undeployed_app_is_not_gone_while_a_suspect_host_may_run_it() -> None:
    world = lattice("a", "b")
    world.deploy(app(actor(instances=4)))
    world.run(2)
    world.hosts["b"].state = "suspect"
    world.undeploy("shop")
    world.run(3)

    assert world.counts("shop-counter") == {"a": 0, "b": 2}
    assert not world.statuses["shop"].gone
    assert world.statuses["shop"].status is Status.RECONCILING


def test_a_config_is_deleted_after_what_uses_it() -> None:
    world = lattice("a")
    world.deploy(app(actor(links=[link("kv", config={"u": {"url": "x"}})]), provider()))
    world.run(3)
    world.undeploy("shop")

    first, second = world.tick(), world.tick()

    assert DeleteConfig not in {type(command) for command in commands(first)}
    assert {type(command) for command in commands(second)} == {DeleteConfig}


def test_a_config_that_a_link_of_somebody_elses_uses_is_kept() -> None:
    world = lattice("a")
    world.deploy(app(actor(config={"c": {"k": "v"}})))
    world.run(3)
    theirs = Link(
        source_id="p",
        target="q",
        wit_namespace="n",
        wit_package="p",
        target_config=["shop-c"],
    )
    world.links[theirs.order] = theirs
    world.undeploy("shop")
    world.run(3)

    assert "shop-c" in world.configs
    assert not world.statuses["shop"].gone
