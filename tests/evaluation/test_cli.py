from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("typer")
pytest.importorskip("tomli_w")

from foolart.evaluation import cli, engine
from foolart.evaluation.scenario import Scenario, presets


@pytest.fixture
def scenario(table, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(Scenario.of(table()).to_toml())
    return path


def run(*arguments):
    return cli.run([str(argument) for argument in arguments])


def test_evaluate_prints_the_table_and_says_where_all_is(scenario, tmp_path, capsys):
    out = tmp_path / "r"
    assert run("evaluate", "--scenario", scenario, "--out", out) == 0
    said = capsys.readouterr()
    for text in ("ddn", "lagrangian", "Q_lambda", "λ"):
        if text in said.out:
            break
    else:
        pytest.fail(said.out)
    assert str(out) in said.err.replace("\n", "")
    assert (out / "report.html").is_file()


def test_json_is_all_there_is_on_stdout(scenario, tmp_path, capsys):
    assert run("evaluate", "--scenario", scenario, "--out", tmp_path / "r", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert [row["line"]["variant"] for row in summary["rows"]] == ["raw", "rounded", "lagrangian"]
    assert summary == json.loads((tmp_path / "r" / "summary.json").read_text())


def test_options_override_the_scenario(scenario, tmp_path, digits_files, monkeypatch):
    asked = {}

    def evaluate(what, out, progress):
        asked.update(scenario=what, out=out)
        raise ValueError("enough")

    monkeypatch.setattr(engine, "evaluate", evaluate)
    run(
        "evaluate", "--scenario", scenario, "--attacks", "cw(steps=3, confidence=1),ddn",
        "--attack", "fmn", "--seed", 3, "--seed", 4, "--variants", "raw", "--workers", 2,
        "--device", "cuda", "--budget", 0.5,
    )  # fmt: skip
    what = asked["scenario"]
    assert [spec.text for spec in what.attacks] == ["cw(steps=3, confidence=1)", "ddn", "fmn"]
    assert (what.seeds, what.variants, what.device, what.budgets) == (
        (3, 4),
        ("raw",),
        "cuda",
        (0.5,),
    )
    assert what.run.workers == 2
    assert what.models[0].label == "net"
    run("evaluate", "--attacks", "ddn")
    assert str(asked["out"]) == "results/scenario"
    assert [spec.text for spec in asked["scenario"].attacks] == ["ddn"]
    run("evaluate")
    assert str(asked["out"]) == "results/quick"
    assert len(asked["scenario"].attacks) > 2


def test_an_interrupted_run_is_kept_and_says_how_to_go_on(scenario, tmp_path, capsys, monkeypatch):
    out = tmp_path / "a folder"
    work = engine.work

    def interrupted(store, what, plan, pending, *rest, **kwargs):
        work(store, what, plan, pending[:1], *rest, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "work", interrupted)
    assert run("evaluate", "--scenario", scenario, "--out", out) == 130
    said = capsys.readouterr().err
    assert "1 of 3 work units are finished" in said
    assert f"foolart resume '{out}'" in said.replace("\n", "")
    assert (out / "per_image.csv").is_file()
    monkeypatch.setattr(engine, "work", work)
    assert run("resume", out) == 0
    assert run("report", out) == 0


def test_an_interruption_before_anything_is_computed_does_not_promise_to_go_on(
    scenario, tmp_path, capsys, monkeypatch
):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "make_plan", interrupted)
    assert run("evaluate", "--scenario", scenario, "--out", tmp_path / "r") == 130
    said = capsys.readouterr().err
    assert "Start again with the same command" in said
    assert "foolart resume" not in said
    assert not (tmp_path / "r").exists()


def test_names_are_printed_as_they_are(scenario, tmp_path, capsys):
    out = tmp_path / "runs [old] of :boom: and of more than eighty characters, in words " / "[b]"
    out.parent.mkdir()
    assert run("evaluate", "--scenario", scenario, "--out", out) == 0
    assert f"report.html: {out}\n" in capsys.readouterr().err
    assert run("report", out, "--metric", "sharpness") == 2
    assert "unknown metric 'sharpness': expected some of" in capsys.readouterr().err


def test_a_missing_package_is_no_traceback(scenario, tmp_path, capsys, monkeypatch):
    assert run("evaluate", "--scenario", scenario, "--out", tmp_path / "r") == 0
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert run("report", tmp_path / "r", "--metric", "lpips") == 2
    assert "pip install lpips" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run("report", tmp_path / "r") == 2
    assert 'pip install "foolart[all]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        ("a(x=1, y=(2, 3)), b", ["a(x=1, y=(2, 3))", "b"]),
        ("a(x={'k': [1, 2]}),b(y='p),q')", ["a(x={'k': [1, 2]})", "b(y='p),q')"]),
    ],
)
def test_commas_within_parentheses_separate_nothing(text, parts):
    assert cli._list([text]) == parts


def test_a_file_may_have_a_comma_in_its_name(tmp_path):
    (tmp_path / "a,b.npz").touch()
    assert cli._list([str(tmp_path / "a,b.npz")]) == [str(tmp_path / "a,b.npz")]


def test_broken_comparisons_have_an_exit_code_of_their_own(table, tmp_path, capsys):
    path = tmp_path / "s.toml"
    attacks = ["ddn(steps=3)", "gen-attack(epsilon=0.3)"]  # which is targeted only
    path.write_text(Scenario.of(table(attacks=attacks, variants=["raw"])).to_toml())
    assert run("evaluate", "--scenario", path, "--out", tmp_path / "r") == 3
    said = capsys.readouterr()
    assert "foolart resume" in said.err.replace("\n", " ")
    assert "unsupported criterion" in " ".join((said.out + said.err).split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--preset", "quik"], "unknown preset 'quik': did you mean quick?"),
        (["evaluate", "--preset", "quick", "--scenario", "x.toml"], "exclude each other"),
        (["evaluate", "--scenario", "x.toml"], "x.toml: cannot be read"),
        (["evaluate", "--attacks", "dnn"], "unknown attack 'dnn': did you mean ddn"),
        (["evaluate", "--attacks", "ddn(stepps=3)"], "did you mean steps"),
        (["evaluate", "--workers", "many"], "--workers"),
        (["evaluate", "--wrokers", "2"], "--workers"),
        (["resume", "nowhere"], "nothing to resume"),
        (["report", "nowhere"], "nowhere is no results folder of foolart"),
        (
            ["codebook", "--data", "foolbox:mnist", "-o", "x.safetensors", "--device", "gpu"],
            "device gpu cannot be used",
        ),
        (["inspect-layers", "--data", "foolbox:mnist", "-o", "no/x.json"], "folder no does not"),
        (["list", "atacks"], "did you mean attacks"),
        (["lst"], "lst"),
    ],
)
def test_what_is_wrong_is_said_and_has_an_exit_code(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_lists_name_what_scenarios_accept(capsys):
    names = {}
    for kind in ("attacks", "models", "presets"):
        assert run("list", kind, "--json") == 0
        names[kind] = [row["name"] for row in json.loads(capsys.readouterr().out)]
        assert run("list", kind) == 0
        assert names[kind][0].split(":")[0] in capsys.readouterr().out
    assert {"boundary-projection", "ddn", "cw"} <= set(names["attacks"])
    assert names["presets"] == list(presets())
    assert "efficientnet-lite0" in names["models"]


@pytest.mark.parametrize("missing", [["typer"], ["torch"]])
def test_a_missing_extra_is_named(missing):
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        f"u.find_spec = lambda name, *a: None if name in {missing!r} else find(name, *a)\n"
        "from foolart.evaluation.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    extras = "eval,torch" if missing == ["torch"] else "eval"
    assert done.stderr.strip().endswith(f'pip install "foolart[{extras}]"')


def test_help_names_all_commands_and_exit_codes(capsys):
    assert run("--help") == 0
    said = capsys.readouterr().out
    commands = ("evaluate", "resume", "report", "list", "magnify", "inspect-layers", "codebook")
    for word in (*commands, "train", "spectra", "--install-completion", "130"):
        assert word in said
