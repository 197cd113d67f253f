"""``foolart``: the command line; evaluate and resume are here, other commands in their modules."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from foolart.evaluation import engine
from foolart.evaluation.inspect_command import codebook_command, inspect_layers_command
from foolart.evaluation.listing import list_command
from foolart.evaluation.magnify import magnify_command
from foolart.evaluation.reporting.command import report_command
from foolart.evaluation.results import Results
from foolart.evaluation.scenario import EXECUTORS, Scenario, presets
from foolart.evaluation.spectra import spectra_command
from foolart.evaluation.train import train_command

BAD_INPUT, INCOMPLETE, INTERRUPTED = 2, 3, 130
EPILOG = (
    "Exit codes: 0 all comparisons computed; 1 an unexpected error; 2 something given is wrong; "
    "3 some comparisons broke or are missing; 130 interrupted."
)

app = typer.Typer(
    name="foolart",
    help="Attacks, defences and an honest evaluation harness for image classifiers.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Instead of those of the process.

    Returns:
        The exit code.
    """
    try:
        code = app(arguments, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Abort:
        return INTERRUPTED
    except typer.Exit as error:
        return error.exit_code
    except (ValueError, OSError) as error:
        return _refused(str(error))
    except ImportError as error:
        if (error.name or "").startswith("foolart"):
            raise
        hint = "" if "pip install" in str(error) else ': pip install "foolart[all]"'
        return _refused(f"{error}{hint}")
    except Exception as error:
        # Click's own complaints about the command line know how to show themselves.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        return BAD_INPUT


def _refused(why: str) -> int:
    console.print("error:", style="bold red", end=" ")
    _say(why)
    return BAD_INPUT


def _say(text: str, style: str = "") -> None:
    """Print to stderr as it is: brackets, colons and long paths are names, no layout."""
    console.print(Text(text, style), soft_wrap=True)


def _presets() -> list[str]:
    return list(presets())


Texts = list[str] | None


@app.command()
def evaluate(
    preset: Annotated[
        str | None,
        typer.Option(help="A ready scenario, see `foolart list presets`.", autocompletion=_presets),
    ] = None,
    scenario: Annotated[Path | None, typer.Option(help="A scenario as TOML file.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Results folder; results/NAME by default.")
    ] = None,
    model: Annotated[
        Texts, typer.Option("--model", "--models", help="E.g. timm:resnet50, package.module:make.")
    ] = None,
    data: Annotated[
        Texts, typer.Option(help='E.g. "digits.npz(images=x, labels=y, count=100)", a folder.')
    ] = None,
    attacks: Annotated[
        Texts, typer.Option("--attacks", "--attack", help='E.g. "ddn(steps=100)"; repeat for more.')
    ] = None,
    defences: Annotated[
        Texts, typer.Option("--defences", "--defence", help="See `foolart list defences`.")
    ] = None,
    variants: Annotated[Texts, typer.Option(help="raw, rounded or lagrangian.")] = None,
    threats: Annotated[Texts, typer.Option(help="white-box, transfer or adaptive.")] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", "--seeds")] = None,
    budget: Annotated[
        list[float] | None, typer.Option("--budget", "--budgets", help="L2 distances for P_upp.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(help="Forward and backward passes an attack may spend per image.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    compute_batch: Annotated[
        int | None, typer.Option(help="Rows of every pass; less needs less memory.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of a worker on the CPU.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; on GPUs, one for each of them.")
    ] = None,
    executor: Annotated[str | None, typer.Option(help=" or ".join(EXECUTORS) + ".")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images of a work unit.")] = None,
    shards: Annotated[int | None, typer.Option(help="Parts that the data are cut into.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> int:
    """Compare attacks on models: every comparison on one table, with a report and the images.

    A folder of the same scenario is gone on with. Options override what preset or scenario say.
    """
    if preset is not None and scenario is not None:
        raise ValueError("--preset and --scenario exclude each other: give one of them")
    given: dict[str, Any] = {
        "models": _list(model),
        "data": _list(data),
        "attacks": _list(attacks),
        "defences": _list(defences),
        "variants": _list(variants),
        "threats": _list(threats),
        "seeds": seed,
        "budgets": budget,
        "queries": queries,
        "device": device,
        "compute_batch": compute_batch,
        "threads": threads,
        "workers": workers,
        "executor": executor,
        "batch_size": batch_size,
        "shards": shards,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    if scenario is None and preset is None and attacks:
        base = Scenario(attacks=changes["attacks"])
    else:
        base = Scenario.of(scenario if scenario is not None else preset or "quick")
    chosen = base.with_(**changes)
    folder = out if out is not None else Path("results") / chosen.name
    return _carry_out(folder, as_json, lambda tell: engine.evaluate(chosen, folder, tell))


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="The results folder of an interrupted run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> int:
    """Go on with an interrupted run; what is finished is not computed again."""
    return _carry_out(folder, as_json, lambda tell: engine.resume(folder, tell))


def _carry_out(folder: Path, as_json: bool, how: Callable[[engine.Progress], Results]) -> int:
    try:
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task("", total=None)

            def tell(done: int, total: int, what: str) -> None:
                bar.update(task, completed=done, total=total or None, description=what)

            results = how(tell)
    except KeyboardInterrupt:
        return _interrupted(folder)
    if as_json:
        print(json.dumps(results.summary.as_json(), allow_nan=False))
    else:
        _show(results)
    if results.complete:
        return 0
    again = f"foolart resume {shlex.quote(str(folder))}"
    _say(f"Some comparisons are incomplete: see above; `{again}` tries them again.")
    return INCOMPLETE


def _interrupted(folder: Path) -> int:
    try:
        results = Results.load(folder)
        results.write()
        state = f"{results.done} of {results.total} work units are finished and kept"
    except (ValueError, OSError):
        _say("Interrupted: nothing was computed yet. Start again with the same command.")
        return INTERRUPTED
    _say(f"Interrupted: {state}. Go on with:")
    _say(f"  foolart resume {shlex.quote(str(folder))}", style="bold")
    return INTERRUPTED


def _show(results: Results) -> None:
    from foolart.evaluation.reporting.contents import Contents
    from foolart.evaluation.reporting.terminal import Leaderboard

    Console().print(Leaderboard(Contents.of(results)))
    for trace in results.traces:
        _say(trace.strip().splitlines()[-1], style="red")
    _say(f"Results, images and report.html: {results.folder}")


def _list(texts: list[str] | None) -> list[str] | None:
    """What was given by repeating an option, or separated by commas outside of parentheses."""
    if not texts:
        return None
    return [part.strip() for text in texts for part in _parts(text)]


def _parts(text: str) -> list[str]:
    if Path(text).exists():
        return [text]
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and depth:
            quote = char
        else:
            depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


app.command("report")(report_command)
app.command("list")(list_command)
app.command("magnify")(magnify_command)
app.command("inspect-layers")(inspect_layers_command)
app.command("codebook")(codebook_command)
app.command("train")(train_command)
app.command("spectra")(spectra_command)
