from __future__ import annotations

import eagerpy as ep
import numpy as np
import pytest

from foolart.plugins.boundary import Position, schedule
from foolart.plugins.box import Box, rint
from foolart.plugins.gradients import norm

CONTINUOUS = Box(0, 255, None)
LEVELS = Box(0, 255, 256)
GAMMA = 0.8


@pytest.fixture
def r() -> ep.Tensor:
    return ep.astensor(np.random.default_rng(0).normal(0, 3, (5, 3, 6, 6)))


@pytest.fixture
def g() -> ep.Tensor:
    return ep.astensor(np.random.default_rng(1).normal(0, 0.2, (5, 3, 6, 6)))


def test_schedule_grows_from_gamma_min_and_stays_below_one() -> None:
    gammas = [schedule(i, 20, 0.7) for i in range(20)]
    assert gammas[0] == 0.7
    assert np.allclose(np.diff(gammas), 0.3 / 21)
    assert gammas[-1] < 1


def test_along_meets_sphere_and_tangent_plane(r: ep.Tensor, g: ep.Tensor) -> None:
    z = Position.of(r, g, g).along(ep.zeros(r, 5) - 1, GAMMA).take(r, g, CONTINUOUS)
    np.testing.assert_allclose(norm(z).numpy(), GAMMA * norm(r).numpy(), rtol=1e-6)
    moved = ((z - r) * g).reshape((5, -1)).sum(axis=-1).numpy()
    np.testing.assert_allclose(moved, 0, atol=1e-6)


def test_along_is_the_point_of_the_intersection_closest_to_the_iterate(
    r: ep.Tensor, g: ep.Tensor
) -> None:
    z = Position.of(r, g, g).along(ep.zeros(r, 5) - 1, GAMMA).take(r, g, CONTINUOUS).numpy()
    rng = np.random.default_rng(2)
    unit = (g / norm(g).reshape((5, 1, 1, 1))).numpy()
    rho = (r.numpy() * unit).sum((1, 2, 3), keepdims=True)
    for _ in range(50):  # random points of sphere and plane
        tangent = rng.normal(size=z.shape)
        tangent -= (tangent * unit).sum((1, 2, 3), keepdims=True) * unit
        tangent /= np.sqrt((tangent**2).sum((1, 2, 3), keepdims=True))
        radius = GAMMA * norm(r).numpy().reshape(5, 1, 1, 1)
        other = rho * unit + np.sqrt(radius**2 - rho**2) * tangent
        gap = np.square(z - r.numpy()).sum((1, 2, 3)) - np.square(other - r.numpy()).sum((1, 2, 3))
        assert (gap < 1e-6).all()


def test_along_steps_back_by_the_margin_where_collinear(g: ep.Tensor) -> None:
    r, loss = -20 * g, ep.zeros(g, 5) - 0.5
    z = Position.of(r, g, g).along(loss, GAMMA).take(r, g, CONTINUOUS)
    back = (norm(r) - norm(z)).numpy()
    np.testing.assert_allclose(back, np.minimum(0.5 / norm(g).numpy(), 0.2 * norm(r).numpy()))


def test_across_reaches_the_sphere_against_the_gradient(r: ep.Tensor, g: ep.Tensor) -> None:
    z = Position.of(r, g, g).across(0.1, GAMMA).take(r, g, CONTINUOUS)
    np.testing.assert_allclose(norm(z).numpy(), norm(r).numpy() / GAMMA, rtol=1e-6)
    step = (r - z).numpy() / g.numpy()
    assert (step > 0).all()
    assert np.allclose(step, step[:, :1, :1, :1])


@pytest.mark.parametrize("gamma", [0.7, 0.9, 0.97])
def test_rounded_steps_keep_to_the_length(r: ep.Tensor, g: ep.Tensor, gamma: float) -> None:
    """Within one flipped level, and never standing still: the sphere is crossed, not approached."""
    r = ep.astensor(np.rint(r.numpy()))
    out = Position.of(r, g, g).along(ep.zeros(r, 5) - 1, gamma).take(r, g, LEVELS)
    across = Position.of(r, g, g).across(0.1, gamma).take(r, g, LEVELS)
    out, across = rint(out), rint(across)
    length = norm(r).numpy()
    assert (norm(out).numpy() <= gamma * length).all()
    assert (norm(out).numpy() > gamma * length - 1.5).all()
    assert (norm(across).numpy() >= length / gamma).all()
    assert (norm(across).numpy() < length / gamma + 1.5).all()


def test_zero_gradient_shrinks_outside_and_stays_inside(r: ep.Tensor) -> None:
    g = ep.zeros_like(r)
    position = Position.of(r, g, g)
    out = position.along(ep.zeros(r, 5) - 1, GAMMA).take(r, g, CONTINUOUS)
    np.testing.assert_allclose(out.numpy(), GAMMA * r.numpy())
    np.testing.assert_array_equal(position.across(0.1, GAMMA).take(r, g, LEVELS).numpy(), r.numpy())


def test_another_direction_keeps_the_loss_and_the_length(r: ep.Tensor, g: ep.Tensor) -> None:
    d = g + 0.5 * g.flip(axis=-1)
    position = Position.of(r, g, d)
    out = position.along(ep.zeros(r, 5) - 1, 0.97).take(r, d, CONTINUOUS)
    np.testing.assert_allclose(norm(out).numpy(), 0.97 * norm(r).numpy(), rtol=1e-6)
    moved = ((out - r) * g).reshape((5, -1)).sum(axis=-1).numpy()
    np.testing.assert_allclose(moved, 0, atol=1e-6)
    across = position.across(0.1, 0.97).take(r, d, CONTINUOUS)
    np.testing.assert_allclose(norm(across).numpy(), norm(r).numpy() / 0.97, rtol=1e-6)
    step = (r - across).numpy() / d.numpy()
    np.testing.assert_allclose(step, np.broadcast_to(step[:, :1, :1, :1], step.shape), rtol=1e-5)
