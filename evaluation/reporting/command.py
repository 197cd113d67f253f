"""``foolart report``: write the report of a run, or compare two."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from foolart.evaluation.reporting import changes_text
from foolart.evaluation.reporting.report import changes, contents_of, report
from foolart.evaluation.reporting.terminal import Leaderboard
from foolart.evaluation.store import Store


def report_command(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER [OTHER]", help="A results folder, or two to compare."),
    ],
    embed: Annotated[
        bool, typer.Option("--embed", help="Put the pictures into the page: one file to send.")
    ] = False,
    perception: Annotated[
        bool, typer.Option("--perception", help="Score the pictures first (MAD, SSIM, PSNR, ...).")
    ] = False,
    metric: Annotated[
        list[str] | None, typer.Option(help="Score with this metric only, such as lpips.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Level of the tests, when comparing two.")] = 0.05,
    out: Annotated[
        Path | None, typer.Option(help="Write the comparison of two as Markdown to this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Write the report of a run, also while it goes on; or say what changed from one to another."""
    if len(folders) == 1:
        if out is not None:
            raise ValueError("--out names the comparison of two folders, but only one was given")
        _write(folders[0], embed, metric or perception, as_json)
    elif len(folders) == 2:
        _compare(folders[0], folders[1], alpha, out, as_json)
    else:
        raise ValueError(f"expected one results folder, or two to compare, got {len(folders)}")


def _write(folder: Path, embed: bool, perception: bool | list[str], as_json: bool) -> None:
    path = report(folder, embed=embed, perception=perception, progress=_progress)
    contents = contents_of(folder)
    if as_json:
        print(json.dumps(contents.summary.as_json(), allow_nan=False))
    else:
        _print(Leaderboard(contents))
        print(f"wrote {path}")


def _compare(before: Path, after: Path, alpha: float, out: Path | None, as_json: bool) -> None:
    found = changes(before, after, alpha=alpha)
    if out is not None:
        Store(out.parent).write_text(out.name, changes_text.markdown(found))
    if as_json:
        print(json.dumps(found.as_json(), allow_nan=False))
    else:
        _print(changes_text.terminal(found))
        if out is not None:
            print(f"wrote {out}")


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console().print(renderable)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\rscored {done} of {total} pictures", end=end, file=sys.stderr, flush=True)
