"""The tables as Markdown (``summary.md``) and as LaTeX (``summary.tex``).

Both hold results only, no times, so that they repeat exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

from foolart.evaluation.reporting import matrices, words
from foolart.evaluation.reporting.contents import Contents
from foolart.evaluation.reporting.leaderboard import by_task, columns, counted, note, sections
from foolart.evaluation.summary import Summary


def markdown(contents: Contents) -> str:
    """The leaderboard as Markdown (``summary.md``): results only, so that it repeats exactly."""
    summary = contents.summary
    shown = columns(summary)
    parts = [f"# {contents.title}"]
    for task, rows in by_task(summary).items():
        parts.append(f"## {words.task(task)}\n\n{counted(rows)}")
        table = [
            [column.head for column in shown],
            ["---" if column.text else "---:" for column in shown],
            *([column.cell(row, None) for column in shown] for row in rows),
        ]
        parts.append(_table(table))
    if transfers := matrices.transfer(summary):
        parts += ["## Transfer", *map(_matrix, transfers)]
    if tables := defence_tables(summary):
        parts += ["## Defences by threat model", tables]
    return "\n\n".join([*parts, note(summary)]) + "\n"


def defence_tables(summary: Summary) -> str:
    """Defences by threat model as Markdown; empty where there are none."""
    return "\n\n".join(map(_matrix, matrices.defences(summary)))


def _matrix(matrix: matrices.Matrix) -> str:
    table = [
        [matrix.corner, *matrix.columns],
        ["---", *["---:"] * len(matrix.columns)],
        *([name, *(cell.text for cell in cells)] for name, cells in matrix.rows),
    ]
    return f"{matrix.title}\n\n" + _table(table)


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(map(_pipe, cells))} |" for cells in rows)


def latex(contents: Contents) -> str:
    """The leaderboard as LaTeX tables, in the style of booktabs."""
    shown = [column for column in columns(contents.summary) if column.head != "flags"]
    parts = [r"% needs \usepackage{booktabs}"]
    for task, rows in by_task(contents.summary).items():
        body = []
        for row, first in sections(rows):
            cells = [_latex(column.cell(row, None)) for column in shown]
            mark = r"\textsuperscript{!}" if words.flags(row) else ""
            body.append(r"\midrule " * first + " & ".join([cells[0] + mark, *cells[1:]]) + r" \\")
        flagged = [f"{words.attack(row.line)}: {words.flags(row)}" for row in rows]
        flagged = [text for text, row in zip(flagged, rows, strict=True) if words.flags(row)]
        marks = rf" \textsuperscript{{!}} {_latex('; '.join(flagged))}." if flagged else ""
        lines = [
            r"\begin{table}",
            rf"\caption{{{_latex(words.task(task))}. {_latex(counted(rows))}{marks}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(shown) - 2)}}}",
            r"\toprule",
            " & ".join(column.latex for column in shown) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _pipe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {char: f"\\{char}" for char in "&%$#_{}"}
    special |= {"–": "--", "±": r"$\pm$", "∞": r"$\infty$", "·": r"$\cdot$", "λ": r"$\lambda$"}
    escaped = "".join(special.get(char, char) for char in text.replace("\n", " "))
    return escaped.replace(r"Q\_$\lambda$", r"$Q_\lambda$")
