"""The part of ``docs/cli.md`` that repeats the tree of commands."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from lattice.cli import main
from lattice.cli.options import Options

BEGIN = "<!-- The commands: written by python -m tests.support.reference_docs -->"
END = "<!-- End of the commands -->"


@dataclass(frozen=True, slots=True)
class Listed:
    """A command that does something, as opposed to a group of them."""

    name: str
    """In full: ``start component``."""
    panel: str
    command: Any

    @property
    def summary(self) -> str:
        return str(self.command.help or "").partition("\n\n")[0]

    @property
    def usage(self) -> str:
        """What it takes; the options of every command are left out."""
        own = [p for p in self.command.params if p.name not in Options.__dataclass_fields__]
        arguments = [_argument(p) for p in own if p.param_type_name == "argument"]
        context = typer.Context(self.command)
        options = [_option(p, context) for p in own if p.param_type_name == "option"]
        shown = [part for part in (*arguments, *options) if part]
        return " ".join(("lattice", self.name, *shown))


def tree() -> TyperGroup:
    """All of it, also what the command itself loads only when it is meant."""
    group = typer.main.get_command(main.build())
    assert isinstance(group, TyperGroup)
    group.commands = {name: main.load(name) for name in main.WORDS}
    return group


def commands() -> list[Listed]:
    """Every command, panel by panel."""
    found = list(_commands(tree(), "", ""))
    return sorted(found, key=lambda listed: main.PANELS.index(listed.panel))


def render() -> str:
    """The tables of commands, between the marks."""
    parts = [BEGIN]
    for panel in main.PANELS:
        rows = [listed for listed in commands() if listed.panel == panel]
        parts += ["", f"### {panel}", "", "| command | what it does |", "|---|---|"]
        parts += [f"| `{_cell(row.usage)}` | {_cell(row.summary)} |" for row in rows]
    return "\n".join((*parts, "", END))


def replaced(page: str) -> str:
    """A page with its tables of commands written anew."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert begin, "the page has no place for the commands"
    assert end, "the page has no place for the commands"
    return head + render() + tail


def _commands(group: TyperGroup, prefix: str, panel: str) -> Iterator[Listed]:
    for name in group.list_commands(None):  # type: ignore[arg-type]
        command: Any = group.commands[name]
        where = panel or command.rich_help_panel
        if command.hidden:
            continue
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{prefix}{name} ", where)
        else:
            yield Listed(prefix + name, where, command)


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).removesuffix("...")
    if parameter.nargs == -1:
        name += "..."
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any, context: typer.Context) -> str:
    if parameter.hidden or parameter.name == "help":
        return ""
    name = next(text for text in parameter.opts if text.startswith("--"))
    if not parameter.is_flag:
        name += f" {parameter.metavar or parameter.display_type(context).strip('<>')}"
    text = name if parameter.required else f"[{name}]"
    return text + "..." if parameter.multiple else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
