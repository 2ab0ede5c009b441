"""Every command of `contimg` and its parameters, and calls parsed without being run."""

from collections.abc import Iterator
from typing import Any

import typer

from dsa110_contimg.cli.main import app

Command = Any
"""A command of typer's own copy of click, which has no public type."""


def children(command: Command) -> dict[str, Command]:
    """Return the commands below one, by name; of `contimg` itself they are imported one by one."""
    if not hasattr(command, "list_commands"):
        return {}
    return {name: command.get_command(None, name) for name in command.list_commands(None)}


def leaves(command: Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Yield every command that does something, with the words that call it."""
    for name, child in children(command).items():
        if children(child):
            yield from leaves(child, (*words, name))
        else:
            yield (*words, name), child


COMMANDS = dict(leaves(typer.main.get_command(app)))


def parse_call(words: list[str]) -> None:
    """Parse a call of `contimg` as the program would, without running it; a wrong one raises."""
    command: Command = typer.main.get_command(app)
    path = ["contimg"]
    while known := children(command):
        while words and words[0] in ("--verbose", "-v"):
            words = words[1:]
        assert words, f"{' '.join(path)} needs a command"
        assert words[0] in known, f"{' '.join(path)} has no command {words[0]}"
        path.append(words[0])
        command, words = known[words[0]], words[1:]
    command.make_context(" ".join(path), list(words))
