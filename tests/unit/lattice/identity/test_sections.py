import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.identity import sections
from lattice.identity.sections import COMPONENT, MODULE
from tests.support.wat import assemble
from tests.unit.lattice.identity.golden import golden

NOTE = frozenset({"note"})


def section(number: int, content: bytes) -> bytes:
    assert len(content) < 0x80
    return bytes([number, len(content)]) + content


def custom(name: str, content: bytes) -> bytes:
    return section(0, bytes([len(name)]) + name.encode() + content)


def test_a_section_is_appended_and_found() -> None:
    wasm = sections.append(MODULE, "note", b"hello")

    assert list(sections.custom(wasm)) == [("note", b"hello")]
    assert sections.strip(wasm, NOTE) == MODULE


def test_a_section_of_any_length_is_appended_as_an_engine_reads_it() -> None:
    content = bytes(100_000)

    wasm = sections.append(assemble("(module (memory 1))"), "note", content)

    assert list(sections.custom(wasm)) == [("note", content)]


def test_sections_go_by_name_and_the_others_stay_in_order() -> None:
    wasm = MODULE + custom("a", b"1") + custom("note", b"2") + section(1, b"\0") + custom("b", b"3")

    assert sections.strip(wasm, NOTE) == (
        MODULE + custom("a", b"1") + section(1, b"\0") + custom("b", b"3")
    )


def test_sections_go_in_nested_modules_and_components_too() -> None:
    inner = custom("note", b"x") + custom("kept", b"y")
    wasm = (
        COMPONENT + section(1, MODULE + inner) + section(4, COMPONENT + section(1, MODULE + inner))
    )

    kept = custom("kept", b"y")
    assert sections.strip(wasm, NOTE) == (
        COMPONENT + section(1, MODULE + kept) + section(4, COMPONENT + section(1, MODULE + kept))
    )
    assert list(sections.custom(wasm)) == []


def test_types_and_elements_of_a_module_are_not_taken_for_nested_ones() -> None:
    wasm = MODULE + section(1, b"\0") + section(4, b"\0")

    assert sections.strip(wasm, NOTE) == wasm


def test_lengths_are_written_in_their_shortest_form() -> None:
    long = MODULE + bytes([1, 0x81, 0x80, 0, 0])

    assert sections.strip(long, NOTE) == MODULE + section(1, b"\0")


@pytest.mark.parametrize(
    "wasm",
    [
        b"",
        b"\0as",
        b"ELF" * 10,
        b"\0asm\x02\0\0\0",
        MODULE + b"\0",
        MODULE + b"\0\x05note",
        MODULE + b"\0\xff\xff\xff\xff\xff\x00",
        MODULE + b"\0\xff\xff\xff\xff\x7f",
        MODULE + section(0, b"\x09note"),
        MODULE + section(0, b""),
        COMPONENT + section(1, b"no module"),
        COMPONENT + section(4, COMPONENT[:-1]),
    ],
    ids=[
        "nothing",
        "cut magic",
        "another program",
        "another version",
        "no length",
        "cut section",
        "endless length",
        "length over 32 bits",
        "cut name",
        "no name",
        "nested rubbish",
        "nested cut",
    ],
)
def test_rubbish_is_an_invalid_request(wasm: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a WebAssembly binary"):
        sections.strip(wasm, NOTE)


def test_a_russian_doll_ends_somewhere() -> None:
    wasm = COMPONENT
    for _ in range(sections.DEPTH_MAX + 1):
        wasm = COMPONENT + b"\4" + sections.number(len(wasm)) + wasm

    with pytest.raises(errors.InvalidRequest, match="nested deeper"):
        sections.strip(wasm, NOTE)


def test_a_binary_of_nothing_but_sections_ends_somewhere() -> None:
    wasm = MODULE + section(1, b"") * (sections.SECTIONS_MAX + 1)

    with pytest.raises(errors.InvalidRequest, match="more than"):
        sections.strip(wasm, NOTE)


@given(st.binary(max_size=60), st.sampled_from([b"", MODULE, COMPONENT]))
def test_no_bytes_make_the_reader_stumble(content: bytes, head: bytes) -> None:
    try:
        stripped = sections.strip(head + content, NOTE)
    except errors.InvalidRequest:
        return
    assert sections.strip(stripped, NOTE) == stripped


@given(st.integers(0, 400), st.integers(0, 255))
def test_no_damage_makes_the_reader_stumble(position: int, byte: int) -> None:
    wasm = bytearray(golden("component"))
    wasm[position % len(wasm)] = byte

    try:
        list(sections.custom(bytes(wasm)))
        sections.strip(bytes(wasm), NOTE)
    except errors.InvalidRequest:
        pass
