"""Python of the README and the documentation runs; commands and options of theirs exist."""

from __future__ import annotations

import re
import shlex
from itertools import groupby

import pytest

pytest.importorskip("torch")
pytest.importorskip("typer")
pytest.importorskip("tomli_w")

import typer

from foolart.evaluation import catalogue, defences
from foolart.evaluation.attack_names import BUILT_IN, MENDED
from foolart.evaluation.cli import app
from foolart.evaluation.scenario import Scenario, tomllib

from .pages import PAGES, ROOT, blocks, commands

PYTHON = {page: list(found) for page, found in groupby(blocks("python"), lambda b: b.page)}
SHELL = blocks("sh", "console")
FOOLART = [
    pytest.param(command, id=f"{block}: {command[:60]}")
    for block in SHELL
    for command in commands(block)
    if command.startswith("foolart ")
]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.docs
@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_runs_from_the_top_of_a_page_to_its_end(
    page, reader, small_zoo, tmp_path, monkeypatch
):
    if any("foolart.adapters.art" in block.code for block in PYTHON[page]):
        pytest.importorskip("art")
    if any("ProductQuantizer" in block.code for block in PYTHON[page]):
        pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    for block in PYTHON[page]:
        if block.included is None:
            # Lines count as in the page, so that a traceback names the right one.
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, str(page), "exec"), reader)


def test_included_files_are_examples_which_have_tests_of_their_own():
    files = [block.included for block in blocks("python", "toml") if block.included]
    assert files
    for file in files:
        assert file.is_file(), file
        assert file.is_relative_to(ROOT / "examples"), file


def parsed(command):
    """The subcommand and the parameters of a command line, as typer reads it."""
    words = shlex.split(command, comments=True)[1:]
    group = typer.main.get_command(app)
    name, subcommand, rest = group.resolve_command(
        group.make_context("foolart", list(words)), words
    )
    return name, subcommand.make_context(name, rest).params


@pytest.mark.parametrize("command", FOOLART)
def test_commands_options_and_names_exist(command):
    name, given = parsed(command)
    if name == "evaluate":
        changes = {
            key: given[key] for key in ("variants", "threats", "attacks", "defences") if given[key]
        }
        base = (
            Scenario(attacks=["ddn"]) if given["preset"] is None else Scenario.of(given["preset"])
        )
        scenario = base.with_(**changes)
        for kind, known in (
            # Older releases of Foolbox have fewer attacks than the pages name.
            ("attacks", {**BUILT_IN, **MENDED, **catalogue.attacks()}),
            ("defences", defences.defences()),
        ):
            for spec in getattr(scenario, kind):
                assert ":" in spec.name or spec.name in known, spec
        for spec in scenario.attacks:
            if spec.name in catalogue.attacks():
                catalogue.build_attack(spec)
    if name == "list":
        assert given["kind"] in ("attacks", "defences", "models", "presets")


def test_a_mistyped_option_or_name_would_be_noticed():
    with pytest.raises(Exception, match="No such option"):
        parsed("foolart evaluate --presets quick")
    with pytest.raises(Exception, match="No such command"):
        parsed("foolart evalute --preset quick")


def test_extras_that_commands_install_exist():
    asked = [
        extra
        for block in SHELL
        for command in commands(block)
        if "pip install" in command
        for group in re.findall(r"\[([\w,]+)\]", command)
        for extra in group.split(",")
    ]
    assert asked
    assert set(asked) <= set(EXTRAS), sorted(set(asked) - set(EXTRAS))


def test_scripts_that_pages_run_exist():
    script = re.compile(r"python ((?:examples|docs|benchmarks|studies)/[\w/]+\.py)")
    named = {name for page in PAGES for name in script.findall(page.read_text())}
    assert named
    for name in named:
        assert (ROOT / name).is_file(), name


def test_scenarios_of_the_pages_are_accepted():
    found = [b for b in blocks("toml") if b.included is None and "attacks" in b.code]
    assert found
    for block in found:
        assert Scenario.parse(block.code, str(block)).attacks


def test_every_command_is_in_the_reference():
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    for name in typer.main.get_command(app).commands:
        assert f"`foolart {name}`" in page, name


def test_pictures_that_pages_show_exist():
    for page in PAGES:
        for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / name).is_file(), f"{page}: {name}"


def test_the_figures_script_makes_what_pages_name():
    text = (ROOT / "docs" / "figures" / "make.py").read_text()
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    names = set(re.findall(r"docs/figures/make\.py (\w+)", pages))
    assert names
    for name in names:
        assert f'"{name}": {name},' in text
