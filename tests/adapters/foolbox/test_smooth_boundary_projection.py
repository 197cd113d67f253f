from __future__ import annotations

from typing import Any

import pytest

from foolart.adapters.foolbox.boundary_projection import BoundaryProjectionAttack
from foolart.adapters.foolbox.smooth_boundary_projection import SmoothBoundaryProjectionAttack
from foolart.plugins.smoothing import GuidedSmoothing
from tests.networks import Digits, Linear

torch = pytest.importorskip("torch")

SMOOTHING = {"smoothing_alpha": 0.9, "bandwidth": 0.3}


def lengths(x: Any, y: Any) -> Any:
    return (y - x).flatten(1).norm(dim=1)


def roughness(images: Any, r: Any) -> Any:
    """||r - s^(r)|| / ||r||: how little a perturbation is like its own smoothing."""
    smooth = GuidedSmoothing(images, alpha=0.9, bandwidth=0.3)
    return lengths(r, smooth(r)) / r.flatten(1).norm(dim=1)


@pytest.mark.parametrize("levels", [None, 256])
def test_comes_close_to_the_true_distance_along_smooth_perturbations(
    linear: Linear, levels: int | None
) -> None:
    attack = SmoothBoundaryProjectionAttack(levels=levels, **SMOOTHING)
    raw, _, success = attack(linear.model(), linear.images, linear.labels, epsilons=None)
    assert success.all()
    smooth = GuidedSmoothing(linear.images, alpha=0.9, bandwidth=0.3)
    normal = (linear.weight[0] - linear.weight[1]).reshape(1, 3, 8, 8).expand(6, -1, -1, -1)
    d = smooth(smooth.adjoint(normal.contiguous()))
    # The linear margin changes by <normal, .>, and every perturbation is a multiple of d.
    reach = (d * normal).flatten(1).sum(dim=1) / d.flatten(1).norm(dim=1)
    true = linear.distances() * normal[0].norm() / reach
    ratio = lengths(linear.images, raw) / true
    assert (ratio <= 1.25).all()
    if levels is None:
        assert (ratio >= 1 - 1e-4).all()


def test_perturbations_are_smoother_than_those_of_bp(digits: Digits) -> None:
    fmodel, x, labels = digits.model(), digits.images, digits.labels
    smooth, _, success = SmoothBoundaryProjectionAttack(**SMOOTHING)(
        fmodel, x, labels, epsilons=None
    )
    plain, _, _ = BoundaryProjectionAttack()(fmodel, x, labels, epsilons=None)
    assert success.all()
    assert ((smooth * 255) - (smooth * 255).round()).abs().max() < 1e-3
    assert (roughness(x, smooth - x) < roughness(x, plain - x)).all()
    assert roughness(x, smooth - x).mean() < 0.7 * roughness(x, plain - x).mean()


def test_without_smoothing_it_is_bp_that_carries_fractions(linear: Linear) -> None:
    fmodel, x, labels = linear.model(), linear.images, linear.labels
    smooth, _, _ = SmoothBoundaryProjectionAttack(smoothing_alpha=0, levels=None)(
        fmodel, x, labels, epsilons=None
    )
    plain, _, _ = BoundaryProjectionAttack(levels=None)(fmodel, x, labels, epsilons=None)
    torch.testing.assert_close(smooth, plain, rtol=1e-4, atol=1e-6)


def test_alone_or_in_a_batch(digits: Digits) -> None:
    attack, fmodel = SmoothBoundaryProjectionAttack(**SMOOTHING), digits.model()
    x, labels = digits.images[:3], digits.labels[:3]
    together, _, _ = attack(fmodel, x, labels, epsilons=None)
    alone = torch.cat(
        [attack(fmodel, x[i : i + 1], labels[i : i + 1], epsilons=None)[0] for i in range(3)]
    )
    torch.testing.assert_close(lengths(x, together), lengths(x, alone), rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"smoothing_alpha": 1.0}, "alpha"),
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"kernel": "box"}, "kernel"),
        ({"channel_axis": 2}, "channel_axis"),
        ({"steps": 0}, "steps"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothBoundaryProjectionAttack(**parameters)
