from __future__ import annotations

from typing import Any

import foolbox
import numpy as np
import pytest
from foolbox.criteria import Misclassification, TargetedMisclassification

from foolart.adapters.foolbox import MinimalEpsilon, SmoothL2ProjectedGradientDescentAttack
from foolart.plugins.smoothing import GuidedSmoothing
from tests.networks import Digits, Linear

torch = pytest.importorskip("torch")


def lengths(x: Any, y: Any) -> Any:
    return (y - x).flatten(1).norm(dim=1)


class Doubtful(torch.nn.Module):
    """A network less sure of itself: where it is sure, Foolbox's cross-entropy rounds to 0."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        return self.net(x) / 10


@pytest.mark.parametrize("smoothed", ["gradient", "perturbation"])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("stepsize", [{"rel_stepsize": 0.1}, {"abs_stepsize": 0.3}])
def test_without_smoothing_it_is_foolboxs(
    digits: Digits, stepsize: dict[str, float], targeted: bool, smoothed: str
) -> None:
    criterion = (TargetedMisclassification if targeted else Misclassification)(
        (digits.labels + 1) % 10 if targeted else digits.labels
    )
    model = foolbox.PyTorchModel(Doubtful(digits.net).eval(), bounds=(0, 1), device="cpu")
    ours, theirs = (
        attack(model, digits.images, criterion, epsilons=0.8)[0]
        for attack in (
            SmoothL2ProjectedGradientDescentAttack(
                **stepsize, steps=10, alpha=0, smoothed=smoothed
            ),
            foolbox.attacks.L2PGD(**stepsize, steps=10, random_start=False),
        )
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 255)])
def test_by_hand(linear: Linear, bounds: tuple[int, int]) -> None:
    x = linear.images
    lower, upper = bounds
    smoothing = GuidedSmoothing(x, 0.9, "gaussian", 0.2)
    g = (linear.weight[linear.labels] - linear.weight[1 - linear.labels]).view(x.shape)

    def unit(v: Any) -> Any:
        return v / v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    expected = {
        "gradient": x - 0.4 * unit(smoothing(g)),
        "perturbation": x + smoothing(smoothing(-0.2 * unit(g)) - 0.2 * unit(g)),
    }
    for smoothed, image in expected.items():
        attack = SmoothL2ProjectedGradientDescentAttack(
            abs_stepsize=0.2 * (upper - lower), steps=2, alpha=0.9, kernel="gaussian",
            bandwidth=0.2, smoothed=smoothed,
        )  # fmt: skip
        raw = attack.run(
            linear.model(bounds),
            linear.images_in(bounds),
            linear.labels,
            epsilon=0.5 * (upper - lower),
        )
        np.testing.assert_allclose((raw - lower) / (upper - lower), image.clip(0, 1), atol=1e-6)


def test_stays_in_the_ball_and_within_bounds(digits: Digits) -> None:
    attack = SmoothL2ProjectedGradientDescentAttack(steps=20, alpha=0.9)
    raws, _, success = attack(
        digits.model(), digits.images, digits.labels, epsilons=[0.0, 0.3, 3.0]
    )
    for epsilon, raw in zip((0.0, 0.3, 3.0), raws, strict=True):
        assert (lengths(digits.images, raw) <= epsilon * (1 + 1e-5)).all()
        assert raw.min() >= 0
        assert raw.max() <= 1
    assert success[0].sum() == 0
    assert success[2].float().mean() > success[1].float().mean()


def test_flat_images_defeat_it(digits: Digits) -> None:
    # Digits are flat but for their strokes: the smoothed gradient is a poor direction there.
    distances = {}
    for alpha in (0.0, 0.99):
        attack = MinimalEpsilon(
            SmoothL2ProjectedGradientDescentAttack(steps=10, rel_stepsize=0.2, alpha=alpha),
            epsilons=63,
        )
        raw = attack(digits.model(), digits.images, digits.labels, epsilons=None)[0]
        distances[alpha] = lengths(digits.images, raw)
    assert (distances[0.99] > distances[0.0]).all()
    assert distances[0.99].mean() > 1.2 * distances[0.0].mean()


def test_alone_or_in_a_batch(digits: Digits) -> None:
    attack = SmoothL2ProjectedGradientDescentAttack(steps=10, alpha=0.9)
    together = attack.run(digits.model(), digits.images, digits.labels, epsilon=0.5)
    for i in range(4):
        x, label = digits.images[i : i + 1], digits.labels[i : i + 1]
        alone = attack.run(digits.model(), x, label, epsilon=0.5)
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-3)


def test_misclassified_inputs_come_back_untouched(digits: Digits) -> None:
    labels = (digits.labels + 1) % 10
    attack = SmoothL2ProjectedGradientDescentAttack(steps=3)
    raw, _, success = attack(digits.model(), digits.images, labels, epsilons=1.0)
    assert success.all()
    assert torch.equal(raw, digits.images)


def test_zero_gradients_leave_the_image(digits: Digits) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval()
    torch.nn.init.zeros_(net[1].weight)
    net[1].bias.data[:] = torch.tensor([1.0, 0.0])
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    x = torch.full((2, 1, 8, 8), 0.5)
    attack = SmoothL2ProjectedGradientDescentAttack(steps=3)
    raw = attack.run(model, x, torch.tensor([0, 0]), epsilon=1.0)
    assert torch.equal(raw, x)
    assert net[1].weight.grad is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rel_stepsize": 0.0}, "rel_stepsize > 0"),
        ({"abs_stepsize": -1.0}, "abs_stepsize > 0"),
        ({"steps": 0}, "steps >= 1"),
        ({"alpha": 1.0}, "alpha in"),
        ({"kernel": "box"}, "kernel to be one of"),
        ({"bandwidth": 0.0}, "bandwidth to be positive"),
        ({"smoothed": "image"}, "smoothed to be one of"),
        ({"channel_axis": 0}, "channel_axis to be None"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothL2ProjectedGradientDescentAttack(**parameters)
