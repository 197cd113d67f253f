"""Curves, strips, pictures, matrices and sentences: what the page is put together from."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest

from foolart.evaluation.gradient_checks import NO_GRADIENT
from foolart.evaluation.records import Curve
from foolart.evaluation.reporting import matrices
from foolart.evaluation.reporting.contents import Contents
from foolart.evaluation.reporting.curves import anytime, best_at, operating, thin
from foolart.evaluation.reporting.findings import findings, trouble
from foolart.evaluation.reporting.strips import Scale, strip

from ..synthetic import record, records

NAN = math.nan


def test_the_chart_has_the_exact_steps():
    (task,) = operating(Contents(records([0.1, 0.4, NAN, 0.4])))
    (series,) = task["series"]
    assert series["x"] == [0.1, 0.4]
    assert series["y"] == [0.25, 0.75]
    assert series["half"] == pytest.approx(math.sqrt(math.log(40) / 8))


def test_a_large_run_is_thinned_to_points_of_the_curve():
    distances = np.sort(np.random.default_rng(0).uniform(size=3000))
    (task,) = operating(Contents(records(distances.tolist())))
    (series,) = task["series"]
    assert len(series["x"]) == 400
    place = np.searchsorted(distances, series["x"], side="left")
    assert np.abs(place / 3000 - series["y"]).max() < 1e-3
    assert series["y"][-1] == 1


@pytest.mark.parametrize("n", [0, 1, 2, 399, 400, 401, 5000])
def test_thinning_keeps_the_ends(n):
    kept = thin(n)
    assert len(kept) == min(n, 400)
    assert n == 0 or (kept[0], kept[-1]) == (0, n - 1)


def test_anytime_curves_by_hand():
    rows = records([0.1, 0.2, NAN], variant="raw")
    rows.append(record(3, 0.0, correct=False, variant="raw"))
    key = rows[0].comparison
    curves = [
        Curve(key, 0, (2, 6), (0.5, 0.1)),
        Curve(key, 1, (4,), (0.2,)),
        Curve(key, 2, (), ()),  # a run keeps none where it never fooled the model
        Curve(key, 3, (0,), (0.0,)),  # misclassified: does not count
    ]
    queries, best = best_at(curves[:3])
    assert queries.tolist() == [2, 4, 6]
    inf = math.inf
    assert best.tolist() == [[0.5, 0.5, 0.1], [inf, 0.2, 0.2], [inf, inf, inf]]
    for kept in (curves, curves[:2] + curves[3:]):
        (task,) = anytime(Contents(rows, curves=kept))
        (series,) = task["series"]
        assert series["x"] == [2, 4, 6]
        assert series["y"] == [None, 0.5, 0.2]  # the median of three, once two are fooled
        assert series["share"] == pytest.approx([1 / 3, 2 / 3, 2 / 3], abs=1e-5)


def test_strips_lie_on_their_scale():
    rows = Contents(records([0.1, 0.2, 0.3, 0.4]) + records([NAN] * 4, attack="c")).summary.rows
    scale = Scale.of(rows)
    assert (scale.low, scale.high, scale.log) == (0, 0.4, False)
    found = strip(rows[0], scale)
    assert found["q"] == pytest.approx([50, 50, 100, 150, 200])
    assert not found["open"]
    never = strip(rows[1], scale)
    assert never["open"]
    assert not never["dot"]
    assert "50% within 0.200" in found["text"]
    assert "50% never" in never["text"]


def test_a_wide_scale_is_logarithmic():
    scale = Scale(0.01, 1.0, log=True)
    assert [scale(d) for d in (0.001, 0.01, 0.1, 1.0, None)] == pytest.approx([0, 0, 100, 200, 200])
    rows = Contents(records([0.1, 0.1]) + records([9.0, 9.0], attack="b")).summary.rows
    assert Scale.of(rows).log


def test_wins_are_read_by_row():
    rows = records([0.1] * 8 + [0.5], attack="a") + records([0.2] * 8 + [0.3], attack="b")
    (matrix,) = matrices.wins(Contents(rows).summary)
    cells = {name: [cell.text for cell in own] for name, own in matrix.rows}
    assert matrix.columns == ("a", "b")
    assert cells == {"a": ["·", "89"], "b": ["11", "·"]}
    marked = {name: [cell.mark for cell in own] for name, own in matrix.rows}
    assert marked == {"a": [False, True], "b": [False, False]}


def test_the_transfer_matrix_has_sources_left_and_targets_above():
    rows = [
        *records([0.1, 0.1], model="a"),
        *records([0.1, NAN], model="b", source="a", threat="transfer"),
        *records([NAN, NAN], model="a", source="a", defence="jpeg", threat="transfer"),
    ]
    (matrix,) = matrices.transfer(Contents(rows).summary)
    assert matrix.columns == ("a", "a behind jpeg", "b")
    ((source, cells),) = matrix.rows
    assert source == "a"
    assert [cell.share for cell in cells] == [1, 0, 0.5]
    assert matrices.transfer(Contents(records([0.1])).summary) == []


def test_the_transfer_matrix_knows_where_decision_based_adversarials_were_made():
    rows = [
        *records([0.2, 0.1], model="a", threat="decision"),
        *records([0.1, NAN], model="b", source="a", threat="transfer"),
    ]
    (matrix,) = matrices.transfer(Contents(rows).summary)
    assert matrix.columns == ("a", "b")
    ((_, cells),) = matrix.rows
    assert [cell.share for cell in cells] == [1, 0.5]


def test_the_defence_table_ends_with_the_worst_case():
    rows = [
        *records([NAN, NAN, 0.1], defence="jpeg", threat="transfer"),
        *records([0.1, NAN, NAN], defence="jpeg", threat="bpda", flags=NO_GRADIENT),
        *records([0.1, 0.1, 0.1]),
    ]
    (matrix,) = matrices.defences(Contents(rows).summary)
    assert matrix.columns[0] == "clean"
    assert matrix.columns[-2:] == ("worst case", "flags")
    found = dict(matrix.rows)
    by_column = dict(zip(matrix.columns, found["jpeg"], strict=True))
    assert by_column["BPDA, identity"].share == pytest.approx(2 / 3)
    assert by_column["worst case"].share == pytest.approx(1 / 3)
    assert by_column["worst case"].mark
    assert by_column["white-box"].text == "–"
    assert by_column["flags"].text.startswith("bpda: no gradient on 3 of 3 images; 2 of 3")
    assert found["none"][-2].share == 0


def test_the_sentences_name_the_winner_and_what_rounding_costs():
    rows = [
        *records([0.1] * 9, attack="ddn", variant="raw"),
        *records([NAN] * 9, attack="ddn", variant="rounded"),
        *records([0.3] * 9, attack="ddn", variant="lagrangian"),
        *records([0.2] * 9, attack="bp", variant="lagrangian"),
    ]
    ((topic, text),) = findings(Contents(rows).summary)
    assert topic == "net · white-box · digits"
    assert "bp · Q_λ, which fools the model on 100 % of the images (interval 70–100)" in text
    beats = "both Q_λ, it beats the next, ddn, 9 times to 0 with 0 ties (p = .004, corrected)"
    assert beats in text
    assert "rounding takes it from 100 % to 0 %; Q_λ reaches 100 % at a median of 0.300" in text


def test_the_next_attack_is_met_at_its_best():
    rows = [
        *records([0.1] * 8 + [1.0], attack="bp", variant="rounded"),
        *records([0.1] * 8 + [1.0], attack="bp", variant="lagrangian", forwards=30),
        *records([NAN] * 9, attack="ddn", variant="rounded"),
        *records([0.09] * 4 + [0.3] * 4 + [2.0], attack="ddn", variant="lagrangian"),
    ]
    ((_, text),) = findings(Contents(rows).summary)
    assert "Closest among 8-bit images: bp · rounded" in text
    assert "both Q_λ, it beats the next, ddn, 5 times to 4" in text


def test_a_failure_of_all_attacks_is_said():
    ((_, text),) = findings(Contents(records([NAN, NAN])).summary)
    assert text == "No attack found an adversarial for any image."
    assert findings(Contents([]).summary) == []


def test_trouble_is_told_line_by_line():
    lost = record(attack="lost").comparison
    run = Contents(records([0.1]), requested=[lost], errors={lost: "OSError: disk full"})
    assert trouble(run.summary) == [
        "lost · rounded on net · white-box · digits: OSError: disk full"
    ]


def test_pictures_show_the_median_and_the_worst(contents):
    image = pytest.importorskip("PIL.Image")
    from foolart.evaluation.reporting.pictures import examples

    found = [example for items in examples(contents).values() for example in items]
    mine = [e for e in found if e.line.attack == "bp" and e.line.model == "net"]
    assert [(e.which, e.record.image) for e in mine] == [("median", 2), ("worst", 4)]
    panels = {panel.title.split(" ×")[0]: panel.source for panel in mine[0].panels}
    pixels = {
        title: np.asarray(image.open(contents.folder / source)).astype(int)
        for title, source in panels.items()
    }
    delta = pixels["adversarial"] - pixels["original"]
    factor = 127 / np.abs(delta).max()
    assert (pixels["difference"] == np.rint(128 + factor * delta)).all()
    assert pixels["adversarial, magnified"].shape == delta.shape
    assert (pixels["adversarial, magnified"] != pixels["original, magnified"]).any()
    assert not [e for e in found if e.line.threat == "transfer"]


def test_pictures_are_written_once(contents):
    from foolart.evaluation.reporting.pictures import examples

    examples(contents)
    before = {path: path.stat().st_mtime_ns for path in (contents.folder / "figures").iterdir()}
    examples(contents)
    after = {path: path.stat().st_mtime_ns for path in (contents.folder / "figures").iterdir()}
    assert before == after


def test_gray_pictures_work(tmp_path):
    image = pytest.importorskip("PIL.Image")
    from foolart.evaluation.reporting.pictures import examples

    for name, value in (("a.png", 7), ("b.png", 9)):
        image.fromarray(np.full((28, 28), value, np.uint8)).save(tmp_path / name)
    rows = [dataclasses.replace(record(0, 0.1), original="a.png", file="b.png")]
    ((example,),) = examples(Contents(rows, folder=tmp_path)).values()
    assert len(example.panels) == 5
    assert example.width == 28


def test_the_plot_is_a_picture_that_repeats(contents):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    from foolart.evaluation.reporting.plot import operating_characteristic

    small = dataclasses.replace(contents, records=records([0.1, 0.3, NAN]), requested=[])
    content = operating_characteristic(small)
    with image.open(io.BytesIO(content)) as picture:
        assert picture.width > 600
    assert operating_characteristic(small) == content


def test_names_with_dollars_are_no_formulas():
    pytest.importorskip("matplotlib")
    from foolart.evaluation.reporting.plot import operating_characteristic

    rows = records([0.1, 0.4], model="$\\frac$ net", attack="a$b$_{")
    assert operating_characteristic(Contents(rows)).startswith(b"\x89PNG")


def test_many_curves_keep_their_panel_and_their_names(contents, recwarn):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    from foolart.evaluation.reporting.plot import operating_characteristic

    many = [r for k in range(40) for r in records([0.1 * k, 0.3], attack=f"attack {k}")]
    crowded = dataclasses.replace(contents, records=many, requested=[])
    with image.open(io.BytesIO(operating_characteristic(crowded))) as picture:
        assert picture.height > picture.width
    # Axes that collapse under a legend make matplotlib warn.
    assert not [str(w.message) for w in recwarn]
