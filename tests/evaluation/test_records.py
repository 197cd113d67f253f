from __future__ import annotations

import dataclasses
import math

import pytest

from foolart.evaluation.records import Record, read_records, write_records

RECORD = Record(
    data="digits",
    model='a "quoted", name',
    attack="ddn(steps=20)",
    variant="rounded",
    defence="",
    threat="white-box",
    source="net",
    seed=3,
    image=7,
    image_hash="00ff",
    label=2,
    clean_prediction=2,
    correct=True,
    prediction=5,
    success=True,
    distance=0.1 + 0.2,
    distance_linf=1 / 3,
    forwards=21,
    backwards=20,
    flags="a;b",
)


def test_a_table_survives_the_disk(tmp_path):
    failed = dataclasses.replace(RECORD, success=False, distance=math.nan, flags="broken: x")
    write_records([RECORD, failed], tmp_path / "per_image.csv")
    first, second = read_records(tmp_path / "per_image.csv")
    assert first == RECORD
    assert not first.broken
    assert second.broken
    assert math.isnan(second.distance)
    assert [path.name for path in tmp_path.iterdir()] == ["per_image.csv"]


def test_a_damaged_table_names_its_line(tmp_path):
    path = tmp_path / "per_image.csv"
    write_records([RECORD, RECORD], path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match="line 3"):
        read_records(path)
