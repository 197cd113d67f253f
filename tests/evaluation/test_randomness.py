from __future__ import annotations

import random

import eagerpy as ep
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from foolart.evaluation.randomness import row_seed, seeded_rows  # noqa: E402

SEEDS = [row_seed(0, name) for name in "abcd"]

DRAWS = {
    "rand": lambda n: torch.rand(n, 3, 2),
    "rand of a shape": lambda n: torch.rand((n, 3)),
    "randn": lambda n: torch.randn(n, 5),
    "rand_like": lambda n: torch.rand_like(torch.zeros(n, 2)),
    "randn_like": lambda n: torch.randn_like(torch.zeros(n, 2)),
    "randint": lambda n: torch.randint(7, (n, 9)),
    "randint between": lambda n: torch.randint(low=3, high=9, size=(n, 9)),
    "uniform_": lambda n: torch.empty(n, 4).uniform_(-2, -1),
    "normal_": lambda n: torch.empty(n, 4).normal_(3, 0.1),
    "eagerpy": lambda n: ep.uniform(ep.astensor(torch.zeros(n)), (n, 3), -1, 1).raw,
    "a generator": lambda n: torch.rand(n, 3, generator=torch.Generator().manual_seed(5)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_numbers_belong_to_the_row_and_not_to_its_place(draw):
    with seeded_rows(0, SEEDS):
        whole = [draw(4), draw(4)]
    with seeded_rows(0, [SEEDS[2], SEEDS[0], SEEDS[3]]):
        some = [draw(3), draw(3)]
    for a, b in zip(whole, some, strict=True):
        assert torch.equal(a[[2, 0, 3]], b)
        assert not torch.equal(a[0], a[1])
    if draw is not DRAWS["a generator"]:
        assert not torch.equal(whole[0], whole[1])


def test_ranges_are_those_asked_for():
    with seeded_rows(0, SEEDS):
        assert -2 <= DRAWS["uniform_"](4).min() <= DRAWS["uniform_"](4).max() <= -1
        assert 2 < DRAWS["normal_"](4).mean() < 4
        assert set(torch.randint(3, 9, (4, 500)).unique().tolist()) == {3, 4, 5, 6, 7, 8}
        assert abs(torch.randn(4, 5000).std() - 1) < 0.05


def test_other_shapes_are_the_same_for_every_batch():
    with seeded_rows(0, SEEDS):
        a = torch.rand(7)
    with seeded_rows(0, SEEDS[:2]):
        b = torch.rand(7)
    assert torch.equal(a, b)


def test_everyone_elses_generators_are_left_as_they_were():
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(3), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    with seeded_rows(0, SEEDS):
        torch.rand(4), np.random.rand(), random.random()
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]


def test_seeds_know_the_run_and_the_image():
    assert len({row_seed(0, "a"), row_seed(1, "a"), row_seed(0, "b")}) == 3
    assert 0 <= row_seed(0, "a") < 2**63


@pytest.mark.parametrize(("rows", "channels", "around"), [(1, 1, 1), (3, 3, 3), (2, 3, 3)])
def test_within_another_context_numbers_are_the_same(rows, channels, around):
    def numbers():
        generator = torch.Generator().manual_seed(7)
        with seeded_rows(1, list(range(rows))):
            return torch.randn(rows, channels, 4, 4, generator=generator)

    alone = numbers()
    with seeded_rows(2, list(range(10, 10 + around))):
        assert torch.equal(numbers(), alone)
        assert torch.equal(numbers(), alone)
