from __future__ import annotations

import math

import eagerpy as ep
import foolbox as fb
import numpy as np
import pytest
from foolbox.attacks import DDNAttack

from foolart.adapters.foolbox.quantized_ddn import QuantizedDDNAttack
from tests.networks import Linear

from .small_networks import CLASSES, jax_network, torch_network

torch = pytest.importorskip("torch")

QUANTIZATIONS = ("rounding", "lagrangian")


def l2(a, b):
    return (a - b).flatten(1).norm(dim=1)


def off_grid(images, bounds=(0, 1), levels=256):
    k = (images.double() - bounds[0]) / (bounds[1] - bounds[0]) * (levels - 1)
    return (k - k.round()).abs().max().item()


@pytest.mark.parametrize("loss", ["log_probability", "margin"])
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_linear_model_is_fooled_close_to_its_true_distance(quantization, loss):
    linear = Linear.make(shape=(3, 8, 8), seed=1)
    true = linear.distances()
    assert (true * 255 / math.sqrt(192) > 2).any()  # a level is small against the distance
    attack = QuantizedDDNAttack(steps=100, quantization=quantization, loss=loss)
    images, _, success = attack(linear.model(), linear.images, linear.labels, epsilons=None)
    assert success.all()
    assert off_grid(images) < 1e-3
    distances = l2(images, linear.images)
    assert (distances >= true * 0.9999).all()
    large = true * 255 / math.sqrt(192) > 2
    assert (distances[large] <= 1.02 * true[large]).all()
    assert (distances <= 1.25 * true + 0.02).all()


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_it_fools_a_network_where_rounding_at_the_end_does_not(quantization):
    model, x, y, counter = torch_network(12)
    counter.calls = 0
    attack = QuantizedDDNAttack(steps=60, quantization=quantization)
    images, clipped, success = attack(model, x, y, epsilons=None)
    assert counter.calls == 60 + 1 + 1  # the steps, the last iterate, and Foolbox's verdict
    assert success.all()
    assert torch.equal(images, clipped)
    assert torch.equal(success, model(images).argmax(-1) != y)
    assert off_grid(images) < 1e-3

    raw, _, _ = DDNAttack(steps=60)(model, x, y, epsilons=None)
    rounded = (raw * 255).round() / 255
    survived = model(rounded).argmax(-1) != y
    assert not survived.all()
    assert l2(images, x).median() < 2 * l2(raw, x).median()


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("bounds", [(-1, 1), (0, 255)])
def test_bounds_only_rescale_the_result(bounds, quantization):
    attack = QuantizedDDNAttack(steps=40, quantization=quantization)
    model, x, y, _ = torch_network(6)
    images, _, success = attack(model, x, y, epsilons=None)
    other, inputs, labels, _ = torch_network(6, bounds=bounds)
    assert torch.equal(labels, y)
    moved, _, succeeded = attack(other, inputs, y, epsilons=None)
    assert success.all()
    assert succeeded.all()
    assert off_grid(moved, bounds) < 1e-3
    scale = bounds[1] - bounds[0]
    np.testing.assert_allclose(l2(moved, inputs) / scale, l2(images, x), rtol=0.01)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_an_image_alone_gives_what_it_gives_in_a_batch(quantization):
    attack = QuantizedDDNAttack(steps=40, quantization=quantization)
    model, x, y, _ = torch_network(6)
    together, _, success = attack(model, x, y, epsilons=None)
    for i in range(6):
        alone, _, one = attack(model, x[i : i + 1], y[i : i + 1], epsilons=None)
        assert one.item() == success[i].item()
        expected = l2(together, x)[i].item()
        assert l2(alone, x[i : i + 1]).item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_targets_are_reached(quantization):
    model, x, y, _ = torch_network(5)
    targets = (y + 7) % CLASSES
    attack = QuantizedDDNAttack(steps=60, quantization=quantization)
    criterion = fb.criteria.TargetedMisclassification(targets)
    images, _, success = attack(model, x, criterion, epsilons=None)
    assert success.all()
    assert torch.equal(model(images).argmax(-1), targets)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_epsilons_and_repetition(quantization):
    model, x, y, _ = torch_network(6)
    attack = QuantizedDDNAttack(steps=30, quantization=quantization)
    raw, _, _ = attack(model, x, y, epsilons=None)
    cut = l2(raw, x).median().item() + 1e-4
    images, clipped, success = attack(model, x, y, epsilons=[1e-3, cut, None])
    assert success.shape == (3, 6)
    assert torch.equal(images[0], raw)
    assert not success[0].any()
    assert success[1][l2(raw, x) <= cut].all()
    assert success[2].all()
    assert (l2(clipped[1], x) <= cut + 1e-5).all()
    again, _, repeated = attack.repeat(2)(model, x, y, epsilons=None)
    assert torch.equal(again, raw)
    assert repeated.all()


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_misclassified_inputs_and_failures_come_back_unchanged(quantization):
    model, x, y, _ = torch_network(5, wrong=2)
    images, _, success = QuantizedDDNAttack(steps=20, quantization=quantization)(
        model, x, y, epsilons=None
    )
    assert success.all()
    assert torch.equal(images[:2], x[:2])
    short = QuantizedDDNAttack(steps=2, init_epsilon=1e-3, quantization=quantization)
    images, _, success = short(model, x, y, epsilons=None)
    assert success.tolist() == [True, True, False, False, False]
    assert torch.equal(images, x)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("levels", [16, 1024])
def test_other_bit_depths(levels, quantization):
    model, x, y, _ = torch_network(5, levels=levels)
    attack = QuantizedDDNAttack(steps=60, levels=levels, quantization=quantization)
    images, _, success = attack(model, x, y, epsilons=None)
    assert success.all()
    assert off_grid(images, levels=levels) < 1e-3


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_vanishing_gradient_is_no_disaster(quantization):
    class Step(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x.flatten(1)[:, :4] - 2)  # all 0 within the bounds

    model = fb.PyTorchModel(Step().eval(), bounds=(0, 1), device="cpu")
    _, x, _, _ = torch_network(2)
    y = torch.zeros(2, dtype=torch.int64)
    images, _, success = QuantizedDDNAttack(steps=5, quantization=quantization)(
        model, x, y, epsilons=None
    )
    assert not success.any()
    assert torch.equal(images, x)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_native_and_eagerpy_tensors_dtypes_and_gradients(quantization):
    model, x, y, _ = torch_network(3)
    before = x.clone()
    attack = QuantizedDDNAttack(steps=20, quantization=quantization)
    native, _, _ = attack(model, x, y.int(), epsilons=None)
    wrapped, _, _ = attack(model, ep.astensor(x), ep.astensor(y), epsilons=None)
    assert isinstance(native, torch.Tensor)
    assert isinstance(wrapped, ep.Tensor)
    assert torch.equal(wrapped.raw, native)
    assert native.dtype == x.dtype
    assert not native.requires_grad
    assert torch.equal(x, before)


@pytest.mark.slow  # JAX compiles every operation
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_jax(quantization):
    model, x, y = jax_network(4)
    attack = QuantizedDDNAttack(steps=25, quantization=quantization)
    images, _, success = attack(model, x, y, epsilons=None)
    assert success.all()
    assert (model(images).argmax(-1) != y).all()
    assert off_grid(torch.from_numpy(np.array(images))) < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "expected steps >= 1"),
        ({"init_epsilon": 0.0}, "expected init_epsilon > 0"),
        ({"init_epsilon": math.inf}, "expected init_epsilon > 0"),
        ({"gamma": 1.0}, "expected gamma between 0 and 1"),
        ({"gamma": math.nan}, "expected gamma between 0 and 1"),
        ({"quantization": "none"}, "expected quantization to be"),
        ({"loss": "hinge"}, "expected loss to be one of"),
        ({"levels": None}, "use foolbox.attacks.DDNAttack"),
        ({"levels": 1}, "expected levels"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        QuantizedDDNAttack(**arguments)


def test_bad_inputs_are_refused():
    model, x, y, _ = torch_network(2)
    with pytest.raises(ValueError, match="expected originals on the grid"):
        QuantizedDDNAttack(steps=1)(model, x * 0.999, y, epsilons=None)
    with pytest.raises(TypeError, match="unexpected keyword"):
        QuantizedDDNAttack(steps=1).run(model, x, y, restarts=3)
