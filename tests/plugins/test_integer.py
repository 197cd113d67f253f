from __future__ import annotations

import itertools
from typing import Any

import eagerpy as ep
import numpy as np
import pytest

from foolart.plugins.gradients import inner
from foolart.plugins.integer import HUGE, Aim, Bracket, Lattice, LinfLattice
from foolart.plugins.knapsack import LARGEST_COST, shortest

REACH = 5


def every(size: int) -> Any:
    """All integer vectors with entries up to REACH in absolute value."""
    levels = range(-REACH, REACH + 1)
    return np.array(list(itertools.product(levels, repeat=size)), dtype=float)


def problems(count: int, size: int = 4) -> tuple[Any, Any, Any]:
    """Gradients, images with saturated elements, and gains within REACH."""
    rng = np.random.default_rng(0)
    h = rng.normal(size=(count, size))
    x = rng.integers(0, 256, (count, size)).astype(float)
    x[::2, 0], x[1::2, 1], x[:, 2] = 0, 255, 2
    room = np.minimum(np.where(h > 0, 255 - x, x), 3)
    return h, x, rng.uniform(0.02, 0.9, count) * (np.abs(h) * room).sum(axis=1)


def cheapest(h: Any, x: Any, gain: float, cost: Any) -> float:
    D = every(len(h))
    feasible = ((-x <= D) & (255 - x >= D)).all(axis=1) & (h @ D.T >= gain - 1e-9)
    return float(cost(D[feasible]).min())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("c", [0.4, 0.9, 1.4])
def test_rounding_is_optimal_for_what_it_gains(c: float, weighted: bool) -> None:
    h, x, _ = problems(40)
    weights = np.random.default_rng(1).uniform(0.5, 2, x.shape) if weighted else np.ones_like(x)
    lattice = Lattice.of(ep.astensor(x), 255, ep.astensor(weights) if weighted else None)
    h_ = ep.astensor(h)
    q = lattice.q(lattice.direction(h_), ep.full(h_, len(h), c)).numpy()
    reached = np.abs(q).max(axis=1) <= REACH
    assert reached.sum() > 30
    assert (q != 0).any()
    for i in np.flatnonzero(reached):
        optimum = cheapest(h[i], x[i], h[i] @ q[i], lambda D, w=weights[i]: (w * D**2).sum(axis=1))
        assert (weights[i] * q[i] ** 2).sum() == pytest.approx(optimum)
        assert lattice.length(ep.astensor(q))[i].item() == pytest.approx(np.sqrt(optimum))


def test_solve_finds_the_smallest_c() -> None:
    h, x, gain = (ep.astensor(a) for a in problems(40))
    lattice = Lattice.of(x, 255)
    c = lattice.solve(h, h, gain, lattice.bounds(h), 24)
    assert (inner(h, lattice.q(h, c)) >= gain).all()
    assert (inner(h, lattice.q(h, c * (1 - 1e-5))) < gain).all()
    # Out of reach: nothing gains more than the upper bound, which crosses the box.
    far = lattice.solve(h, h, gain + 1e9, lattice.bounds(h), 24)
    assert (far == lattice.bounds(h)[1]).all()


def test_the_first_aim_is_the_optimum_of_a_tiny_linear_model() -> None:
    h, x, gain = problems(60)
    aim = Aim.first(Lattice.of(ep.astensor(x), 255), ep.astensor(h), ep.astensor(gain))
    optimum = [cheapest(*p, lambda D: (D**2).sum(axis=1)) for p in zip(h, x, gain, strict=True)]
    np.testing.assert_array_equal((aim.D.numpy() ** 2).sum(axis=1), optimum)
    rounded = aim.lattice.q(aim.lattice.direction(aim.h), aim.c).numpy()
    # The oracle tells them apart, and rounding pays for less than one step of one element.
    excess = (rounded**2).sum(axis=1) - optimum
    assert (excess > 0).any()
    assert (excess <= 2 * np.abs(rounded).max(axis=1) - 1).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_linf_is_the_optimum_of_a_linear_model(weighted: bool) -> None:
    h, x, gain = problems(60)
    weights = np.ones_like(x) * (np.array([0.5, 1, 1, 2]) if weighted else 1)
    lattice = LinfLattice.of(ep.astensor(x), 255, ep.astensor(weights) if weighted else None)
    aim = Aim.first(lattice, ep.astensor(h), ep.astensor(gain))
    assert (inner(ep.astensor(h), aim.D) >= ep.astensor(gain)).all()
    for i in range(60):
        optimum = cheapest(h[i], x[i], gain[i], lambda D, w=weights[i]: (w * np.abs(D)).max(axis=1))
        if not weighted:  # weighted, c rounds up to half a level of an element
            assert lattice.length(aim.D)[i].item() == optimum
        assert lattice.length(aim.D)[i].item() <= optimum + 1


def test_the_shortest_of_a_tiny_box() -> None:
    h = np.array([[10.0, 9.0, 3.2], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    lower, upper = np.full((3, 3), -50.0), np.full((3, 3), 50.0)
    lower[1], upper[1] = 0, 1
    D, exists = shortest(*(ep.astensor(a) for a in (h, np.array([20.0, 3.1, 40.0]), lower, upper)))
    np.testing.assert_array_equal(D.numpy()[0], [1, 1, 1])  # rounding goes to (2, 1, 0)
    # The box is too small, or more than LARGEST_COST is needed.
    assert LARGEST_COST < 40**2
    np.testing.assert_array_equal(exists.numpy(), [True, False, False])


def test_corrections_average_gradients_and_keep_c_in_its_bounds() -> None:
    rng = np.random.default_rng(0)
    x = ep.astensor(rng.integers(50, 200, (5, 3, 8, 8)).astype(float))
    n = [ep.astensor(rng.normal(size=x.shape)) for _ in range(4)]
    aim = Aim.first(Lattice.of(x, 255), n[0], ep.astensor(np.full(5, 30.0)))
    found = ep.astensor(np.array([True, True, False, False, False]))
    for k, margin in enumerate([5.0, 1e9, -1e9]):
        after = aim.corrected(n[k + 1], ep.astensor(np.full(5, margin)), k, 20, found)
        ratio = (after.c / aim.c).numpy()
        assert (ratio <= np.where(found.numpy(), 1.5, 3) + 1e-9).all()
        assert (ratio >= 1 / 1.5 - 1e-9).all()
        aim = after
    # The first gradient is replaced, the others are weighted 1 : 2 : 3.
    units = [aim.lattice.unit(g).numpy() for g in n[1:]]
    expected = sum(w * u for w, u in zip([1 / 6, 2 / 6, 3 / 6], units, strict=True))
    np.testing.assert_allclose(aim.h.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kind", [Lattice, LinfLattice])
def test_without_gradient_nothing_moves(kind: type[Lattice]) -> None:
    x = ep.astensor(np.full((2, 3, 8, 8), 128, dtype=np.float32))
    zero, margin = ep.zeros_like(x), ep.astensor(np.ones(2, dtype=np.float32))
    with np.errstate(all="raise"):
        aim = Aim.first(kind.of(x, 255), zero, margin)
        assert (aim.cost(zero, margin) == np.inf).all()
        for k in range(200):
            aim = aim.corrected(zero, margin, k, 20, margin > 2)
    assert (aim.D == 0).all()
    assert (aim.c <= HUGE).all()


def test_bracket_closes_in_on_the_threshold() -> None:
    threshold = ep.astensor(np.array([0.2, 0.97, 1.0, 1.01, 3.0, 80.0]))
    c = ep.ones_like(threshold)
    bracket = Bracket.unknown(c)
    for trials in range(1, 17):
        bracket, c = bracket.narrowed(c, c >= threshold)
        assert (bracket.low < threshold).all()
        assert (bracket.high >= threshold).all()
        if trials == 8:
            near = (bracket.high / bracket.low).numpy()[1:4]
            assert (near < 1.002).all()
    assert (bracket.high / bracket.low < 1.05).all()
