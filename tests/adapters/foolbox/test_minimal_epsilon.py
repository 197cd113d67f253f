from __future__ import annotations

import math

import eagerpy as ep
import foolbox as fb
import numpy as np
import pytest
from foolbox.attacks import (
    L2PGD,
    DDNAttack,
    L2FastGradientAttack,
    LinfFastGradientAttack,
)

from foolart.adapters.foolbox.minimal_epsilon import MinimalEpsilon
from foolart.adapters.foolbox.quantized import Quantized
from tests.networks import Linear

from .small_networks import CLASSES, jax_network, torch_network

torch = pytest.importorskip("torch")


def l2(a, b):
    return (a - b).flatten(1).norm(dim=1)


class Recorded(L2FastGradientAttack):
    """Remembers how many images it saw at which epsilon."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def run(self, model, inputs, criterion, *, epsilon, **kwargs):
        self.calls.append((epsilon, len(inputs)))
        return super().run(model, inputs, criterion, epsilon=epsilon, **kwargs)


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 255)])
def test_on_a_linear_model_it_finds_the_true_distance(bounds):
    linear = Linear.make()
    x, scale = linear.images_in(bounds), bounds[1] - bounds[0]
    true = linear.distances() * scale
    attack = MinimalEpsilon(L2FastGradientAttack())
    images, _, success = attack(linear.model(bounds), x, linear.labels, epsilons=None)
    assert success.all()
    np.testing.assert_array_less(true * 0.9999, l2(images, x))
    np.testing.assert_array_less(l2(images, x), true * 1.012)

    normal = linear.weight[0] - linear.weight[1]
    true = true * normal.norm() / normal.abs().sum()
    attack = MinimalEpsilon(LinfFastGradientAttack())
    images, _, success = attack(linear.model(bounds), x, linear.labels, epsilons=None)
    largest = (images - x).abs().flatten(1).max(dim=1).values
    assert success.all()
    assert attack.distance is fb.distances.linf
    np.testing.assert_array_less(true * 0.9999, largest)
    np.testing.assert_array_less(largest, true * 1.012)


def test_images_share_calls_and_each_sees_as_many_as_promised():
    model, x, y, _ = torch_network(10)
    attack = Recorded()
    _, _, success = MinimalEpsilon(attack)(model, x, y, epsilons=None)
    assert success.all()
    assert attack.calls[0][1] == 10  # all at once
    assert sum(count for _, count in attack.calls) == 10 * 10
    assert len(attack.calls) < 10 * 10


def test_below_the_smallest_success_comes_a_failure():
    model, x, y, _ = torch_network(3)
    for i in range(3):
        attack, one, label = Recorded(), x[i : i + 1], y[i : i + 1]
        image, _, _ = MinimalEpsilon(attack)(model, one, label, epsilons=None)
        tried = sorted(epsilon for epsilon, _ in attack.calls)
        images, _, success = L2FastGradientAttack()(model, one, label, epsilons=tried)
        first = success[:, 0].tolist().index(True)
        torch.testing.assert_close(image, images[first])
        assert tried[first - 1] > tried[first] / 1.0115  # neighbours in the list of candidates


@pytest.mark.parametrize("search", ["bisection", "exhaustive"])
def test_candidates_may_be_given(search):
    model, x, y, _ = torch_network(8)
    candidates = [2.0, 0.05, 0.1, 0.2, 0.4, 0.8]
    attack = Recorded()
    minimal = MinimalEpsilon(attack, epsilons=candidates, search=search)
    images, _, success = minimal(model, x, y, epsilons=None)
    assert {epsilon for epsilon, _ in attack.calls} <= set(candidates)
    for i in range(8):
        tried = [
            L2FastGradientAttack()(model, x[i : i + 1], y[i : i + 1], epsilons=e)
            for e in sorted(candidates)
        ]
        first = next(t for t in tried if t[2].item())
        assert success[i]
        assert torch.allclose(images[i], first[1][0], atol=1e-6)
    if search == "exhaustive":
        assert len(attack.calls) <= len(candidates)
    else:
        assert sum(count for _, count in attack.calls) <= 3 * 8


def test_exhaustive_search_finds_the_first_success_where_bisection_may_not():
    class Island(fb.attacks.base.FixedEpsilonAttack):
        distance = fb.distances.linf

        def run(self, model, inputs, criterion, *, epsilon, **kwargs):
            x, restore_type = ep.astensor_(inputs)
            return restore_type((x + epsilon).clip(0, 1))

    class Band(torch.nn.Module):
        # Adversarial from .05 to .1 and from .6 on.
        def forward(self, x):
            d = x.flatten(1)[:, 0] - 0.25
            fools = ((d > 0.05) & (d < 0.1)) | (d > 0.6)
            return torch.stack([(~fools).float(), fools.float()], dim=-1)

    model = fb.PyTorchModel(Band().eval(), bounds=(0, 1), device="cpu")
    x, y = torch.full((2, 3), 0.25), torch.zeros(2, dtype=torch.int64)
    epsilons = [0.02, 0.07, 0.3, 0.4, 0.5, 0.65, 0.7]
    found = {}
    for search in ("bisection", "exhaustive"):
        images, _, success = MinimalEpsilon(Island(), epsilons=epsilons, search=search)(
            model, x, y, epsilons=None
        )
        assert success.all()
        found[search] = (images - x).max().item()
    assert found["exhaustive"] == pytest.approx(0.07)
    assert found["bisection"] == pytest.approx(0.65)


def test_an_image_alone_gives_what_it_gives_in_a_batch():
    model, x, y, _ = torch_network(5)
    attack = MinimalEpsilon(L2PGD(steps=5, random_start=False), epsilons=127)
    together, _, _ = attack(model, x, y, epsilons=None)
    for i in range(5):
        alone, _, _ = attack(model, x[i : i + 1], y[i : i + 1], epsilons=None)
        torch.testing.assert_close(alone[0], together[i])


def test_epsilons_repetition_and_quantisation():
    model, x, y, _ = torch_network(6)
    attack = MinimalEpsilon(L2FastGradientAttack(), epsilons=255)
    raw, _, _ = attack(model, x, y, epsilons=None)
    cut = l2(raw, x).median().item() + 1e-4
    images, clipped, success = attack(model, x, y, epsilons=[cut, None, 50.0])
    assert success.shape == (3, 6)
    assert torch.equal(images[0], raw)
    assert success[0][l2(raw, x) <= cut].all()
    assert success[1:].all()
    assert (l2(clipped[0], x) <= cut + 1e-5).all()

    for other in (attack.repeat(2), MinimalEpsilon(attack.attack.repeat(2), epsilons=255)):
        again, _, repeated = other(model, x, y, epsilons=None)
        assert repeated.all()
        torch.testing.assert_close(again, raw)

    on_grid, _, success = Quantized(attack)(model, x, y, epsilons=None)
    assert success.all()
    assert ((on_grid * 255) - (on_grid * 255).round()).abs().max() < 1e-3


def test_targets_are_reached():
    model, x, y, _ = torch_network(4)
    targets = (y + 5) % CLASSES
    criterion = fb.criteria.TargetedMisclassification(targets)
    attack = MinimalEpsilon(L2PGD(steps=10, rel_stepsize=0.2, random_start=False), epsilons=127)
    images, _, success = attack(model, x, criterion, epsilons=None)
    assert success.all()
    assert torch.equal(model(images).argmax(-1), targets)


def test_misclassified_inputs_and_failures_come_back_unchanged():
    model, x, y, _ = torch_network(5, wrong=2)
    attack = Recorded()
    images, _, success = MinimalEpsilon(attack, epsilons=[1e-5, 1e-4])(model, x, y, epsilons=None)
    assert success.tolist() == [True, True, False, False, False]
    assert torch.equal(images, x)
    assert all(count <= 3 for _, count in attack.calls)


@pytest.mark.slow  # JAX compiles every operation for every size of batch
def test_jax():
    model, x, y = jax_network(2)
    attack = MinimalEpsilon(LinfFastGradientAttack(), epsilons=[0.001, 0.01, 0.1])
    images, _, success = attack(model, x, y, epsilons=None)
    assert success.all()
    assert (model(images).argmax(-1) != y).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilons": 0}, "expected at least 1 epsilon"),
        ({"epsilons": 0.5}, "expected epsilons to be their number or a list, got 0.5"),
        ({"epsilons": []}, "expected epsilons to be positive"),
        ({"epsilons": [0.1, -1.0]}, "expected epsilons to be positive"),
        ({"epsilons": [0.1, math.nan]}, "expected epsilons to be positive"),
        ({"search": "linear"}, "expected search to be"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MinimalEpsilon(L2FastGradientAttack(), **arguments)


@pytest.mark.parametrize("attack", [DDNAttack(), "FGSM"])
def test_what_is_no_fixed_epsilon_attack_is_refused(attack):
    with pytest.raises(ValueError, match="expected attack to be a fixed-epsilon attack"):
        MinimalEpsilon(attack)
