from __future__ import annotations

import dataclasses
import io
import json
import math

import pytest

from foolart.evaluation.reporting import changes_text
from foolart.evaluation.reporting.changes import compare
from foolart.evaluation.reporting.contents import Contents

from ..synthetic import record, records

NAN = math.nan
BEFORE = [0.1 * (1 + i) for i in range(12)]


def change(before, after, **options):
    found = compare(Contents(before), Contents(after), **options)
    (only,) = found.lines
    return found.verdict(only), only


def test_a_run_equals_itself():
    verdict, found = change(records(BEFORE), records(BEFORE))
    assert verdict == "equal"
    assert (found.images, found.gained, found.lost, found.closer, found.farther) == (12, 0, 0, 0, 0)
    assert found.p_success == found.p_distance == 1


def test_a_shift_on_every_image_is_significant():
    verdict, found = change(records(BEFORE), records([0.9 * d for d in BEFORE]))
    assert verdict == "closer"
    assert (found.closer, found.farther) == (12, 0)
    assert found.p_distance == pytest.approx(2 * 2 / 2**12)  # two tests, all signs equal
    assert found.median == pytest.approx((0.65, 0.585))
    assert change(records(BEFORE), records([1.1 * d for d in BEFORE]))[0] == "farther away"


def test_lost_successes_are_told_from_longer_distances():
    after = [NAN if i < 9 else d for i, d in enumerate(BEFORE)]
    verdict, found = change(records(BEFORE), records(after))
    assert verdict == "less success and farther away"
    assert (found.gained, found.lost) == (0, 9)
    assert found.p_success == pytest.approx(2 * 2 / 2**9)  # nine of nine, two tests
    assert found.p_suc == (1, 0.25)
    assert change(records(after), records(BEFORE))[0] == "more success and closer"


def test_noise_is_not_significant():
    after = [d * (1.1 if i % 2 else 0.9) for i, d in enumerate(BEFORE)]
    verdict, found = change(records(BEFORE), records(after))
    assert verdict == ""
    assert found.closer == found.farther == 6


def test_many_lines_are_corrected_together():
    def runs(n):
        names = [f"attack{k}" for k in range(n)]
        before = [row for name in names for row in records(BEFORE[:7], attack=name)]
        after = [row for name in names for row in records(BEFORE[:7], attack=name)]
        after[:7] = records([0.9 * d for d in BEFORE[:7]], attack=names[0])
        return compare(Contents(before), Contents(after))

    assert len(runs(1).significant) == 1  # p = 2 / 2**7, twice
    assert runs(2).significant == []  # four times that is above .05


def test_images_are_matched_by_content_not_by_row():
    before = [record(i, d, image_hash=f"h{i}") for i, d in enumerate(BEFORE)]
    after = [record(40 - i, d, image_hash=f"h{i}") for i, d in enumerate(BEFORE)]
    assert change(before, after)[0] == "equal"
    other = [record(i, d, image_hash=f"x{i}") for i, d in enumerate(BEFORE)]
    assert change(before, other)[1].images == 0


def test_equal_images_in_one_data_set_stay_apart():
    before = [record(i, d, image_hash="same") for i, d in enumerate(BEFORE)]
    assert change(before, before)[1].images == 12


def test_only_images_that_count_in_both_are_compared():
    after = [dataclasses.replace(row, correct=row.image > 3) for row in records(BEFORE)]
    after[5] = dataclasses.replace(after[5], flags="broken: ValueError")
    assert change(records(BEFORE), after)[1].images == 7


def test_more_passes_for_the_same_result_are_noticed():
    verdict, found = change(records(BEFORE), records(BEFORE, forwards=41))
    assert verdict == "other passes only"
    assert found.passes == (41, 61)


def test_the_seeds_of_an_image_are_one_observation():
    def seeds(distances):
        return [row for seed in range(3) for row in records(distances, seed=seed)]

    _, once = change(records(BEFORE), records([0.9 * d for d in BEFORE]))
    _, thrice = change(seeds(BEFORE), seeds([0.9 * d for d in BEFORE]))
    assert once.p_distance == thrice.p_distance
    assert (thrice.images, thrice.closer) == (36, 12)


def test_successes_of_many_seeds_count_an_image_once():
    def run(distance):
        return [record(i, distance, seed=seed) for i in range(3) for seed in range(10)]

    verdict, found = change(run(NAN), run(0.5))
    assert (found.gained, found.lost) == (30, 0)
    assert found.p_success == pytest.approx(2 * 2 / 2**3)  # three images, two tests
    assert verdict == ""


@pytest.fixture
def found():
    before = Contents(
        [*records(BEFORE), *records([0.1], attack="old|er")],
        environment={"torch": "2.12", "python": "3.11"},
        scenario="steps = 20\nseed = 0",
    )
    after = Contents(
        [*records([0.9 * d for d in BEFORE]), *records([0.1], attack="newer")],
        environment={"torch": "2.13", "python": "3.11"},
        scenario="steps = 30\nseed = 0",
    )
    return compare(before, after, names=("first", "second"))


def test_the_text_says_what_changed_and_in_what(found):
    text = changes_text.markdown(found)
    assert "**bp · rounded on net · white-box · digits**: closer; P_suc 100 %" in text
    assert "Only in first: old|er" in text
    assert "Only in second: newer" in text
    assert "- torch: 2.12 → 2.13" in text
    assert "python" not in text
    assert "-steps = 20" in text
    assert "+steps = 30" in text
    assert "seed = 0" not in text
    equal = changes_text.markdown(compare(Contents(records(BEFORE)), Contents(records(BEFORE))))
    assert "No line changed significantly." in equal


def test_the_terminal_shows_it_too(found):
    rich = pytest.importorskip("rich.console")
    out = io.StringIO()
    rich.Console(file=out, width=200).print(changes_text.terminal(found))
    assert "closer" in out.getvalue()
    assert "Only in second: newer" in out.getvalue()


def test_the_json_is_plain(found):
    plain = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert plain["lines"][0]["verdict"] == "closer"
    assert plain["only"][0][0]["attack"] == "old|er"


@pytest.mark.parametrize("alpha", [0, 1, 5, NAN])
def test_bad_levels_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha strictly between 0 and 1"):
        compare(Contents([]), Contents([]), alpha=alpha)
