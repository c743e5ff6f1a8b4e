"""What the doctor says of facts: nothing where there is nothing to look at, and each remedy."""

from dataclasses import replace
from typing import Any

import pytest

from lattice.bus import AccountFacts, ServerFacts, StreamFacts, Usage
from lattice.cli import checks
from lattice.cli.checks import Facts, Finding, Incident, Level, Machine, Monitor
from lattice.wire.control import (
    ComponentDescription,
    Host,
    HostInventory,
    Link,
    ProviderCrashes,
    ProviderDescription,
)
from lattice.wire.diagnostics import (
    ConnectionDiagnostics,
    FailureDiagnostics,
    HostDiagnostics,
    StallDiagnostics,
    TaskDiagnostics,
)
from lattice.wire.reconciler import Leading

SERVER = ServerFacts(name="n1", version="2.11.3", max_payload=1024 * 1024, jetstream=True)
ROOM = AccountFacts(
    storage=Usage(used=10, limit=None),
    memory=Usage(used=0, limit=100),
    streams=Usage(used=3, limit=None),
)


def host(name: str, *, version: str = "1.9.2") -> Host:
    return Host(
        id=f"N-{name}",
        friendly_name=name,
        labels={},
        lattice="default",
        uptime_seconds=1,
        version=version,
    )


def inventory(name: str, *components: str, providers: tuple[str, ...] = ()) -> HostInventory:
    return HostInventory(
        components=[
            ComponentDescription(id=component, image_ref="x", max_instances=1)
            for component in components
        ],
        providers=[ProviderDescription(id=provider) for provider in providers],
        host_id=f"N-{name}",
        friendly_name=name,
        labels={},
        version="1.9.2",
        uptime_human="1s",
        uptime_seconds=1,
    )


def link(source: str, target: str, **more: Any) -> Link:
    return Link(
        source_id=source, target=target, wit_namespace="wasi", wit_package="keyvalue", **more
    )


WELL = Facts(
    version="0.1.0",
    machine=Machine(map_count=65_530, open_files=20_000, cache_dir="/cache"),
    server=SERVER,
    round_trip_s=0.001,
    monitor=Monitor(ping_interval_s=2, pings_max=2),
    account=ROOM,
    streams=[StreamFacts(name="KV_LATTICEDATA_default", messages=1, size=Usage(used=1, limit=9))],
    hosts=[host("alpha"), host("beta")],
    inventories={
        "N-alpha": inventory("alpha", "counter"),
        "N-beta": inventory("beta", providers=("kv",)),
    },
    skew_s={"N-alpha": 0.1, "N-beta": -0.1},
    links=[link("counter", "kv", target_config=["redis"])],
    configs=frozenset({"redis"}),
    listened_s=2,
    reconciler=Leading(holder="x", name="alpha", epoch=1),
)


def bad(facts: Facts) -> list[Finding]:
    return [finding for finding in checks.examine(facts) if finding.level is not Level.OK]


def only(facts: Facts) -> Finding:
    """The one thing that is not well."""
    (finding,) = bad(facts)
    return finding


def test_a_lattice_that_is_well_has_no_remedies() -> None:
    findings = checks.examine(WELL)

    assert bad(WELL) == []
    assert all(not finding.remedy for finding in findings)
    assert {finding.check for finding in findings} >= {"NATS", "JetStream", "hosts", "links"}


def test_of_what_is_not_known_nothing_is_said() -> None:
    assert checks.examine(Facts()) == []


def test_without_nats_nothing_else_is_said_of_the_lattice() -> None:
    facts = Facts(machine=WELL.machine, nats_fault="nobody answers", nats_remedy="start it")

    assert only(facts) == Finding("NATS", Level.PROBLEM, "nobody answers", "start it")


@pytest.mark.parametrize(
    ("changed", "level", "words"),
    [
        (
            {"machine": Machine(map_count=1000, cache_dir="/c")},
            Level.WARNING,
            "sysctl -w vm.max_map_count",
        ),
        ({"machine": Machine(open_files=256)}, Level.WARNING, "ulimit -n"),
        (
            {"machine": Machine(cache_dir="/c", cache_fault="/c can't be written: no")},
            Level.PROBLEM,
            "LATTICE_DATA_DIR",
        ),
        ({"round_trip_s": 0.6}, Level.WARNING, "nearer"),
        ({"server": replace(SERVER, version="2.9.22")}, Level.PROBLEM, "upgrade it to 2.10"),
        ({"server": replace(SERVER, max_payload=65_536)}, Level.WARNING, "set max_payload"),
        (
            {"monitor": Monitor(ping_interval_s=120, pings_max=2)},
            Level.WARNING,
            'ping_interval: "2s"',
        ),
        (
            {"account": None, "account_fault": "JetStream is off"},
            Level.PROBLEM,
            "--jetstream",
        ),
        (
            {"account": replace(ROOM, storage=Usage(used=95, limit=100))},
            Level.WARNING,
            "raise the account's limit of storage",
        ),
        (
            {"account": replace(ROOM, streams=Usage(used=10, limit=10))},
            Level.PROBLEM,
            "raise the account's limit of streams",
        ),
        (
            {
                "streams": [
                    StreamFacts(
                        name="OBJ_LATTICEARTEFACTS_default",
                        messages=9,
                        size=Usage(used=100, limit=100),
                    )
                ]
            },
            Level.PROBLEM,
            "max_bytes",
        ),
        (
            {
                "streams": [
                    StreamFacts(
                        name="LATTICECACHE_default", messages=9, size=Usage(used=1, limit=None)
                    )
                ]
            },
            Level.WARNING,
            "nats stream rm LATTICECACHE_default",
        ),
        ({"hosts": [], "inventories": {}, "skew_s": {}}, Level.PROBLEM, "lattice host"),
        (
            {"hosts": [*WELL.hosts, host("gamma")]},
            Level.PROBLEM,
            "restart it",
        ),
        ({"skew_s": {"N-alpha": -30.0}}, Level.WARNING, "NTP"),
        ({"configs": frozenset()}, Level.PROBLEM, "lattice config put redis"),
        ({"unhealthy": {("N-beta", "kv"): "no redis"}}, Level.PROBLEM, "lattice stop provider kv"),
        ({"reconciler": None}, Level.WARNING, "lattice reconcile"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_has_one_finding_with_its_remedy(
    changed: dict[str, Any], level: Level, words: str
) -> None:
    finding = only(replace(WELL, **changed))

    assert finding.level is level
    assert words in finding.remedy


def test_hosts_of_different_versions_are_named_with_them() -> None:
    facts = replace(WELL, hosts=[host("alpha"), host("beta", version="2.0.0")])

    assert "1.9.2, 2.0.0" in only(facts).what


def test_two_hosts_of_one_name_can_not_be_told_apart() -> None:
    twin = host("alpha").model_copy(update={"id": "N-twin"})
    facts = replace(
        WELL,
        hosts=[*WELL.hosts, twin],
        inventories={**WELL.inventories, "N-twin": inventory("alpha")},
    )

    assert "alpha" in only(facts).what


@pytest.mark.parametrize(
    ("stray", "words"),
    [(link("gone", "kv"), "gone as source"), (link("counter", "gone", name="x"), "gone as target")],
    ids=["source", "target"],
)
def test_a_link_with_an_end_that_nobody_runs_is_stuck(stray: Link, words: str) -> None:
    finding = only(replace(WELL, links=[*WELL.links, stray]))

    assert words in finding.what
    assert "gone" in finding.remedy


def test_nothing_is_stuck_for_sure_while_a_host_says_nothing() -> None:
    facts = replace(
        WELL, hosts=[*WELL.hosts, host("mute")], links=[*WELL.links, link("gone", "kv")]
    )

    assert [finding.check for finding in bad(facts)] == ["hosts"]


def test_two_links_on_one_interface_to_different_targets_are_a_matter_of_chance() -> None:
    facts = replace(
        WELL,
        inventories={**WELL.inventories, "N-beta": inventory("beta", providers=("kv", "kv2"))},
        links=[
            link("counter", "kv", interfaces=["store"]),
            link("counter", "kv2", interfaces=["store", "atomics"]),
        ],
    )

    finding = only(facts)
    assert "kv, kv2" in finding.what
    assert "lattice link del counter wasi keyvalue" in finding.remedy


def test_two_links_on_different_interfaces_of_a_package_are_as_they_should_be() -> None:
    facts = replace(
        WELL,
        inventories={**WELL.inventories, "N-beta": inventory("beta", providers=("kv", "kv2"))},
        links=[
            link("counter", "kv", interfaces=["store"]),
            link("counter", "kv2", interfaces=["atomics"]),
        ],
    )

    assert bad(facts) == []


def test_what_happens_again_and_again_is_said_once() -> None:
    crash = Incident(name="provider_crashed", entity="kv", host="N-beta", reason="exit status 1")

    finding = only(replace(WELL, incidents=[crash] * 3))

    assert finding.what == "provider_crashed of kv on host beta 3 times within 2 s: exit status 1"


@pytest.mark.parametrize(
    ("state", "level", "words", "remedy"),
    [
        ("given_up", Level.PROBLEM, "given up after 11 crashes: it fell over", "lattice start"),
        ("restarting", Level.WARNING, "had 11 crashes lately: it fell over", "lattice events"),
        ("running", Level.WARNING, "had 11 crashes lately: it fell over", "lattice events"),
    ],
)
def test_a_provider_that_crashed_is_told_with_what_became_of_it(
    state: str, level: Level, words: str, remedy: str
) -> None:
    there = inventory("beta", providers=("kv",))
    crashes = ProviderCrashes(state=state, count=11, reason="it fell over")
    described = there.providers[0].model_copy(update={"crashes": crashes})
    there = there.model_copy(update={"providers": [described]})
    finding = only(replace(WELL, inventories={**WELL.inventories, "N-beta": there}))

    assert finding.level is level
    assert words in finding.what
    assert remedy in finding.remedy


def test_a_reconciler_that_has_stepped_back_says_for_whom() -> None:
    stepped = Leading(holder="x", name="alpha", stepped_back=True)

    assert "stepped back" in only(replace(WELL, reconciler=stepped, wadms=1)).what


def test_a_wadm_alone_is_as_good_as_a_reconciler() -> None:
    assert bad(replace(WELL, reconciler=None, wadms=2)) == []


def diagnosed(**more: Any) -> Facts:
    return Facts(diagnostics=[HostDiagnostics(id="N-alpha", name="alpha", uptime_s=1, **more)])


def connection(**more: Any) -> ConnectionDiagnostics:
    return ConnectionDiagnostics(purpose="calls", connected=True, server="n1", **more)


@pytest.mark.parametrize(
    ("check", "facts"),
    [
        (
            checks.connections,
            diagnosed(connections=[connection(dropped=3, dropped_by_subject={"a.*": 3})]),
        ),
        (
            checks.connections,
            diagnosed(connections=[connection(replaced=1, replaced_for="nothing arrives")]),
        ),
        (checks.connections, diagnosed(connections=[connection(revived=1)])),
        (
            checks.loops,
            diagnosed(stalls=StallDiagnostics(count=1, worst_s=2.0, last_stack="a\nx.py:1 in f")),
        ),
        (
            checks.tasks,
            diagnosed(
                tasks=[
                    TaskDiagnostics(
                        group="host",
                        name="beat",
                        eternal=True,
                        age_s=1.0,
                        restarts=2,
                        last_failure="ValueError",
                    )
                ]
            ),
        ),
        (
            checks.tasks,
            diagnosed(failures=[FailureDiagnostics(group="rpc", count=1, last="ValueError")]),
        ),
    ],
    ids=["drops", "deaf connection", "ended subscription", "stall", "restarts", "failures"],
)
def test_what_a_host_says_is_wrong_with_itself_is_a_warning_with_a_remedy(
    check: checks.Check, facts: Facts
) -> None:
    (found,) = check(facts)

    assert found.level is Level.WARNING
    assert "alpha" in found.what
    assert found.remedy


@pytest.mark.parametrize("check", [checks.connections, checks.loops, checks.tasks])
def test_a_host_that_is_well_is_no_warning_and_none_is_no_finding(check: checks.Check) -> None:
    (found,) = check(diagnosed(connections=[connection()]))

    assert found.level is Level.OK
    assert list(check(Facts())) == []
