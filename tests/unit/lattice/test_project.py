"""The project file of an actor: what is taken, and where and why it is refused."""

from pathlib import Path

import pytest

from lattice import errors, project
from lattice.project import Abi, Instances, Kind, Language

SMALLEST = """
[actor]
name = "hello"
language = "c"
abi = "wapc"
output = "build/hello.wasm"
"""

WHOLE = """\
[actor]
name = "shop"
language = "other"
kind = "http"
abi = "component"
output = "out/shop.wasm"

[build]
command = ["make", "out/shop.wasm"]
sources = ["lib/*.hs", "Makefile"]

[dev]
http = "[::1]:9000"
instances = "reuse"
config = { greeting = "hello" }

[[dev.links]]
interface = "wasmcloud:keyvalue"
provider = "keyvalue"
provider_config = { backend = "memory" }

[[dev.links]]
interface = "acme:price/lookup"
target = "prices"
name = "today"
config = { currency = "EUR" }
"""


def parse(text: str) -> project.Project:
    return project.parse(text.encode(), folder=Path("/actors/hello"))


def refused(text: str) -> str:
    with pytest.raises(errors.InvalidRequest) as caught:
        parse(text)
    return caught.value.text


def test_the_smallest_project_file_says_what_the_actor_is_and_has_defaults_for_the_rest() -> None:
    found = parse(SMALLEST)

    assert found.actor.name == "hello"
    assert found.actor.language is Language.C
    assert found.actor.kind is Kind.CUSTOM
    assert found.actor.abi is Abi.WAPC
    assert found.output == Path("/actors/hello/build/hello.wasm")
    assert found.build.command == ()
    assert found.dev.http == "127.0.0.1:8080"
    assert found.dev.instances is Instances.FRESH
    assert found.dev.links == ()


def test_everything_that_can_be_said_is_read() -> None:
    found = parse(WHOLE)

    assert found.build.command == ("make", "out/shop.wasm")
    assert found.dev.http == "[::1]:9000"
    assert found.dev.instances is Instances.REUSE
    assert found.dev.config == {"greeting": "hello"}
    store, prices = found.dev.links
    assert (store.provider, store.provider_config) == ("keyvalue", {"backend": "memory"})
    assert (prices.target, prices.name, prices.config) == ("prices", "today", {"currency": "EUR"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[actor\n", "lattice.toml, line 1: not TOML: "),
        ("[actor]\nname =", "lattice.toml, line 2: not TOML: "),
        ("[dev]\n", "lattice.toml: actor: is missing"),
        ("[actor]\nname = 'a'\n", "lattice.toml, line 1: actor.language: is missing"),
        (
            SMALLEST + "speed = 'fast'\n",
            "lattice.toml, line 7: actor.speed: there is no such key; there are: name, language,",
        ),
        (
            SMALLEST.replace('"c"', '"cobol"'),
            "lattice.toml, line 4: actor.language: want 'assemblyscript', 'c', ",
        ),
        (SMALLEST.replace("hello", "a b"), "lattice.toml, line 3: actor.name: 'a b' is no id"),
        (
            SMALLEST.replace("build/", "../"),
            "lattice.toml, line 6: actor.output: want a path inside the project's folder",
        ),
        (SMALLEST.replace("build/", "/tmp/"), "lattice.toml, line 6: actor.output: want a path"),
        (
            SMALLEST.replace('"c"', '"other"'),
            'lattice.toml: actor.language = "other" needs build.command',
        ),
        (
            WHOLE.replace("[::1]:9000", "9000"),
            "lattice.toml, line 13: dev.http: want HOST:PORT, such as 127.0.0.1:8080",
        ),
        (WHOLE.replace("[::1]:9000", "a:70000"), "lattice.toml, line 13: dev.http: want HOST:PORT"),
        (
            WHOLE.replace('target = "prices"\n', ""),
            "lattice.toml, line 22: dev.links.1: want one of provider and target",
        ),
        (
            WHOLE.replace('"acme:price/lookup"', '"acme"'),
            "lattice.toml, line 23: dev.links.1.interface: 'acme' is not an interface",
        ),
        (
            WHOLE.replace('"memory"', "7"),
            "lattice.toml, line 20: dev.links.0.provider_config.backend: Input should be a valid",
        ),
        (WHOLE.replace('["lib/*.hs", "Makefile"]', "[]"), "lattice.toml, line 10: build.sources: "),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_key(text: str, said: str) -> None:
    assert refused(text).startswith(said)


def test_a_folder_without_a_project_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound) as caught:
        project.load(tmp_path)

    assert str(tmp_path) in caught.value.text
    assert "lattice new" in caught.value.remedy


def test_a_project_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / project.FILE).write_text("#" * (project.BYTES_MAX + 1))

    with pytest.raises(errors.PayloadTooLarge):
        project.load(tmp_path)


def test_sources_are_what_the_globs_say_without_what_tools_made(tmp_path: Path) -> None:
    text = SMALLEST + '[build]\nsources = ["**/*"]\n'
    for name in (
        "lattice.toml",
        "src/hello.c",
        "src/deep/er.h",
        "build/hello.wasm",
        "node_modules/left/pad.js",
        "target/debug/x",
        ".lattice/tool",
        "src/__pycache__/x.pyc",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    found = project.load(tmp_path)

    assert [str(path.relative_to(tmp_path)) for path in found.sources()] == [
        "lattice.toml",
        "src/deep/er.h",
        "src/hello.c",
    ]
