from __future__ import annotations

import dataclasses
import io
import math

import pytest

from foolart.evaluation.reporting import documents, leaderboard, words
from foolart.evaluation.reporting.contents import Contents, Cost
from foolart.evaluation.statistics import Estimate
from foolart.evaluation.summary import Line

from ..synthetic import record, records
from .conftest import EVIL

NAN = math.nan


@pytest.fixture
def run() -> Contents:
    rows = [
        *records([0.11, 0.254, 1.3, NAN], attack="ddn_100%"),
        *records([0.1, 0.2, 0.3, 0.4], attack="bp|", flags="norm"),
        *records([0.05, 0.1, 0.2, 0.3], attack="ddn_100%", variant="raw"),
    ]
    lost = record(attack="lost").comparison
    return Contents(
        rows,
        requested=[lost],
        errors={lost: "ValueError: a | b"},
        costs={Line.of(rows[0].comparison): Cost(0.1234, 250_000_000)},
        budgets=(0.25,),
    )


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells of a Markdown table by the first one; escaped bars are no separators."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    split = [line.replace("\\|", "\0").strip("|").split("|") for line in lines]
    cells = [[cell.strip().replace("\0", "|") for cell in row] for row in split]
    return {row[0]: row for row in cells}


def test_labels_that_fit_nothing_are_asked_about():
    wrong = [record(image, 0.0, correct=False) for image in range(3)]
    said = documents.markdown(Contents(wrong))
    assert "None of 3 images is classified correctly" in said
    assert "not off by one" in said
    assert "not off by one" not in documents.markdown(Contents([*wrong, record(3, 0.1)]))


def test_markdown_says_what_the_summary_says(run):
    text = documents.markdown(run)
    found = rows_of(text)
    assert len({len(cells) for cells in found.values()}) == 1
    head = found["attack"]
    cells = dict(zip(head, found["bp|"], strict=True))
    assert cells["P_suc %"] == "100 [51–100]"
    assert cells["median L2"] == "0.250"
    assert cells["mean L2 ± s.e."] == "0.250 ± 0.065"
    assert cells["P(0.25) %"] == "50.0 [15–85]"
    assert (cells["fwd"], cells["bwd"], cells["flags"]) == ("21", "20", "norm")
    assert found["lost"][-1] == "ValueError: a | b"
    assert "0.123" not in text  # seconds do not repeat


def test_the_best_8_bit_result_comes_first_then_raw_ones_then_what_is_missing(run):
    order = [
        row.line[2:4] for row in leaderboard.by_task(run.summary)[run.summary.rows[0].line.task]
    ]
    assert order == [
        ("bp|", "rounded"),
        ("ddn_100%", "rounded"),
        ("ddn_100%", "raw"),
        ("lost", "rounded"),
    ]


def test_latex_is_balanced_and_escaped(run):
    text = documents.latex(run)
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    assert r"ddn\_100\%" in text
    assert text.count("{") == text.count("}")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    assert len({line.count("&") for line in body.splitlines() if "&" in line}) == 1
    assert body.count(r"\midrule") == 2  # after the head, and before the raw lines
    assert r"\textsuperscript{!}" in text


def printed(run: Contents, width: int) -> str:
    rich = pytest.importorskip("rich.console")
    from foolart.evaluation.reporting.terminal import Leaderboard

    out = io.StringIO()
    rich.Console(file=out, width=width).print(Leaderboard(run))
    return out.getvalue()


def test_a_wide_terminal_shows_everything(run):
    text = printed(run, 180)
    for part in ("bp|", "100 [51–100]", "0.250 ± 0.065", "0.12", "250", "optimality"):
        assert part in text
    assert "! bp|: norm" in text
    assert "! lost: ValueError: a | b" in text


def test_80_columns_are_enough_for_what_matters(run):
    text = printed(run, 80)
    assert max(map(len, text.splitlines())) <= 80
    row = next(line for line in text.splitlines() if "bp|" in line)
    assert " ".join(row.split()) == "! bp| rounded 100 0.250 0.250 ± 0.065 50.0 21+20 – –"
    assert "[51–100]" not in text


def test_a_flag_of_some_variants_names_them(run):
    rows = [*records([0.1]), *records([0.1], variant="raw", flags="norm")]
    assert "! bp (raw floats): norm" in printed(Contents(rows), 100)


def test_a_narrow_terminal_cuts_nothing_off(run):
    text = printed(run, 40)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 40


def test_perceptual_columns_appear_with_their_scores(run):
    assert "MAD" not in documents.markdown(run)
    scores = {(row.comparison, row.image): {"mad": 0.5} for row in run.records}
    found = rows_of(documents.markdown(dataclasses.replace(run, perception=scores)))
    assert found["bp|"][found["attack"].index("MAD")] == "0.500"


def test_names_survive(contents):
    assert EVIL.replace("|", "\\|") in documents.markdown(contents)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.2541, "0.254"), (12.94, "12.9"), (254.4, "254"), (0, "0"), (3e-7, "3.00e-07"), (None, "–")],
)
def test_distances_have_three_digits(value, text):
    assert words.distance(value) == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(1.0, 0.815, 1.0), "100 [82–100]"),
        (Estimate(0.941, 0.73, 0.99), "94.1 [73–99]"),
        (Estimate(), "–"),
        (None, "–"),
    ],
)
def test_rates_have_intervals(estimate, text):
    assert words.rate(estimate) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0004, "p < .001"),
        (0.0121, "p = .012"),
    ],
)
def test_p_values(p, text):
    assert words.p_value(p) == text


def test_markdown_has_the_defence_table_too(contents):
    text = documents.markdown(contents)
    head = next(line for line in text.splitlines() if line.startswith("| accuracy % of"))
    columns = ["clean", "transferred", "white-box", "BPDA, identity", "worst case", "flags"]
    assert [cell.strip() for cell in head.strip("|").split("|")][1:] == columns
    assert "| jpeg | 100 [61–100] | – | 100 [61–100] | 100 [61–100] | 100 [61–100] |" in text
    assert "## Transfer" in text
    assert "## Transfer" not in documents.markdown(Contents(records([0.1])))


def test_terminals_show_defences_by_threat_model(contents):
    text = printed(contents, 200)
    row = next(line for line in text.splitlines() if "jpeg" in line and "100 [61–100]" in line)
    assert row.count("100 [61–100]") == 4
    (item,) = (item for item in contents.summary.robustness if item.defence == "jpeg")
    assert f"! jpeg: {'; '.join(item.flags)}" in text.splitlines()


def test_only_the_headline_keeps_its_interval_in_a_narrow_terminal(contents):
    _, table = printed(contents, 50).rsplit("accuracy % of 6 images", 1)
    assert max(map(len, table.splitlines())) <= 50
    assert "…" not in table
    row = next(line for line in table.splitlines() if "jpeg " in line)
    assert row.split()[-5:] == ["100", "–", "100", "100", "100"]
    assert table.count("[61–100]") == 1
