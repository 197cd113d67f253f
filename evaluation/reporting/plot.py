"""The operating characteristics as a picture, for papers and for pages without scripts."""

from __future__ import annotations

import io
import math
from typing import Any

from foolart.evaluation.reporting import words
from foolart.evaluation.reporting.contents import Contents
from foolart.evaluation.reporting.curves import operating

# Told apart by those who see few colours, and dark enough on white; the page has the same order.
COLOURS = (
    "#0b62a4",
    "#c44e00",
    "#1b7f4b",
    "#a3297a",
    "#6b4fbb",
    "#8a6d00",
    "#00798a",
    "#b3202c",
    "#5c5c5c",
    "#7a4b2a",
)
INSIDE = 12  # Curves whose names find room within a panel.
DASHES = {"raw": ":", "rounded": "--", "lagrangian": "-"}


def colours(contents: Contents) -> dict[str, int]:
    """The colour of each attack, the same in every chart of a report."""
    attacks = dict.fromkeys(row.line.attack for row in contents.summary.rows)
    return {attack: k % len(COLOURS) for k, attack in enumerate(attacks)}


def operating_characteristic(contents: Contents, limit: int = 6) -> bytes:
    """P(D) of every attack as a PNG, one panel for each task.

    Args:
        contents: What the report is made of.
        limit: Panels; the page has the other tasks too.
    """
    # The object interface draws without a display and without matplotlib's global state.
    from matplotlib.figure import Figure

    tasks = operating(contents)[:limit]
    colour = colours(contents)
    wide = min(2, max(1, len(tasks)))
    high = max(1, math.ceil(len(tasks) / wide))
    most = max((len(task["series"]) for task in tasks), default=0)
    below = 0.08 * most if most > INSIDE else 0.0
    figure = Figure(figsize=(6.4 * wide, (4.2 + below) * high), layout="constrained")
    axes = figure.subplots(high, wide, squeeze=False).ravel()
    for axis in axes[len(tasks) :]:
        axis.set_axis_off()
    for axis, task in zip(axes, tasks, strict=False):
        _panel(axis, task, colour, contents)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _panel(axis: Any, task: dict[str, Any], colour: dict[str, int], contents: Contents) -> None:
    end = max((series["x"][-1] for series in task["series"] if series["x"]), default=1.0) or 1.0
    for series in task["series"]:
        axis.step(
            [0, *series["x"], end * 1.05],
            [0, *series["y"], series["y"][-1] if series["y"] else 0],
            where="post",
            color=COLOURS[colour[series["attack"]]],
            linestyle=DASHES.get(series["variant"], "-."),
            linewidth=1.6,
            label=_plain(series["label"]),
        )
    for budget in contents.budgets:
        if budget <= end:
            axis.axvline(budget, color="0.7", linewidth=0.8, zorder=0)
    axis.set(
        title=_plain(task["name"]),
        xlabel=f"{words.NORMS[contents.norm]} distortion D",
        ylabel="P(D)",
        xlim=(0, end * 1.05),
        ylim=(0, 1.02),
    )
    axis.title.set_fontsize(10)
    axis.grid(color="0.9", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    if len(task["series"]) <= INSIDE:
        axis.legend(fontsize=7, frameon=False, loc="lower right")
    else:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 2}
        axis.legend(fontsize=7, frameon=False, **place)


def _plain(text: str) -> str:
    """Text without mathematics: what stands between dollar signs need not be TeX."""
    return text.replace("$", r"\$")
