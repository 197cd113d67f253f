"""Writing the report of a results folder, and comparing two."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from foolart.evaluation.reporting.changes import Changes, compare
from foolart.evaluation.reporting.contents import Contents
from foolart.evaluation.reporting.documents import latex, markdown
from foolart.evaluation.reporting.page import page
from foolart.evaluation.reporting.plot import operating_characteristic
from foolart.evaluation.reporting.scores import complete
from foolart.evaluation.results import Results
from foolart.evaluation.store import Store

PAGE = "report.html"
PLOT = "operating_characteristic.png"

Run = Results | Contents | str | Path


def report(
    run: Run,
    *,
    embed: bool = False,
    perception: bool | Iterable[str] = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the report of a run into its folder, finished or not.

    Writes ``report.html`` with the pictures it shows in ``figures/``, ``summary.json``,
    ``summary.md``, ``summary.tex`` and ``operating_characteristic.png``, all from one summary.

    Args:
        run: A results folder, its results, or what a report is made of.
        embed: Whether pictures are put into the page, so that it can be sent as one file.
        perception: Whether to score the pictures first (about a tenth of a second each at 224x224
            pixels), or with which metrics; scores that the folder holds are shown in any case.
        progress: Told how many of how many pictures are scored.

    Returns:
        The path of the page.

    Raises:
        ValueError: If there is no results folder, or a metric is unknown.
        OSError: If something cannot be written.
    """
    contents = contents_of(run)
    folder = contents.folder
    if folder is None:
        raise ValueError("expected contents with a folder to write the report into, got none")
    if perception:
        metrics = None if perception is True else list(perception)
        scores = complete(folder, contents.records, metrics, progress)
        contents = contents.with_perception(scores)
    store = Store(folder)
    store.write_json("summary.json", contents.summary.as_json())
    store.write_text("summary.md", markdown(contents))
    store.write_text("summary.tex", latex(contents))
    store.write_bytes(folder / PLOT, operating_characteristic(contents))
    store.write_text(PAGE, page(contents, embed=embed))
    return folder / PAGE


def changes(before: Run, after: Run, *, alpha: float = 0.05) -> Changes:
    """What changed significantly from one run to another.

    Args:
        before: A results folder, its results, or what a report is made of.
        after: The run to compare with it.
        alpha: Level of the tests, over all lines together.

    Raises:
        ValueError: If there is no results folder, or alpha is no probability.
    """
    a, b = contents_of(before), contents_of(after)
    return compare(a, b, names=_names(a, b), alpha=alpha)


def contents_of(run: Run) -> Contents:
    """What the report of a run is made of.

    Raises:
        ValueError: If there is no results folder.
    """
    if isinstance(run, Contents):
        return run
    return Contents.of(run if isinstance(run, Results) else Results.load(run))


def _names(a: Contents, b: Contents) -> tuple[str, str]:
    """The folders' names where they tell the runs apart, else their paths, else A and B."""
    if a.folder is None or b.folder is None or a.folder == b.folder:
        return "A", "B"
    if a.folder.name != b.folder.name:
        return a.folder.name, b.folder.name
    return str(a.folder), str(b.folder)
