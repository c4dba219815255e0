"""README and docs: every command that they show can be read by its door, and every file that they name is there."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from stopgrad.linear_theory.tools import door

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:python|torchrun\b.*?) -m (?:stopgrad\.)?(linear_theory|deep|experiments|figures) (.*)")


def shown(page):
    """(wing, arguments) of each command line of a wing's door in the page's shell blocks."""
    for block in SHELL.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                if found := COMMAND.match(part.strip()):
                    yield found[1], shlex.split(found[2], comments=True)


ALL = [pytest.param(wing, argv, id=" ".join([wing, *argv])) for page in PAGES for wing, argv in shown(page)]


def test_there_are_commands():
    assert len(ALL) > 40


@pytest.mark.parametrize(("wing", "argv"), ALL)
def test_a_command_that_is_shown_can_be_read(wing, argv):
    program = import_module(f"stopgrad.{wing}.__main__")
    known = program.commands(argv) if wing == "deep" else program.COMMANDS
    assert door._parse(wing, "", known, argv) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
