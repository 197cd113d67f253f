from __future__ import annotations

import itertools
from typing import Any

import eagerpy as ep
import foolbox
import numpy as np
import pytest
from foolbox.criteria import Misclassification, TargetedMisclassification

from foolart.adapters.foolbox import (
    IntegerMinimumNormAttack,
    LinfIntegerMinimumNormAttack,
    QuantizedDDNAttack,
)
from foolart.plugins.visibility import noise_visibility
from tests.networks import Digits, Linear

torch = pytest.importorskip("torch")

BOUNDS = [(0, 1), (-1, 1), (0, 255)]
BOTH = [IntegerMinimumNormAttack, LinfIntegerMinimumNormAttack]


def lengths(x: Any, y: Any) -> Any:
    return (y - x).flatten(1).norm(dim=1)


def levels_of(x: Any, bounds: tuple[float, float] = (0, 1), top: int = 255) -> Any:
    lower, upper = bounds
    return ((x - lower) * top / (upper - lower)).round()


def fmodel(net: Any) -> Any:
    return foolbox.PyTorchModel(net.eval(), bounds=(0, 1), device="cpu")


def tiny_linear_problem(classes: int, size: int, seed: int) -> tuple[Any, Any, Any]:
    """A linear network, and images with saturated elements a few levels from its boundaries."""
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(size, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, size, generator=generator) * 255)
        layer.bias.copy_(torch.randn(classes, generator=generator) * 3 - layer.weight.sum(1) / 2)
    net = torch.nn.Sequential(torch.nn.Flatten(), layer)
    x = torch.randint(118, 138, (4000, 1, 1, size), generator=generator).float() / 255
    return net, x, net(x).argmax(dim=1)


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("classes", [2, 4])
def test_exactly_optimal_on_linear_models(make: type[Any], classes: int) -> None:
    size, reach = 4, 6
    D = torch.tensor(list(itertools.product(range(-reach, reach + 1), repeat=size))).float()
    net, x, labels = tiny_linear_problem(classes, size, seed=classes)
    norm = D.abs().amax(1) if make is LinfIntegerMinimumNormAttack else D.square().sum(1)
    optima, chosen = [], []
    for i in range(200):
        fooled = net(x[i : i + 1] + D[:, None, None] / 255).argmax(dim=1) != labels[i]
        # An optimum within reach, so that nothing outside is closer.
        optimum = norm[fooled].min() if fooled.any() else torch.tensor(np.inf)
        if 1 <= optimum <= (reach if norm.max() == reach else reach**2):
            optima.append(optimum)
            chosen.append(i)
    assert len(chosen) >= 40
    assert max(optima) > 4
    attack = make(candidates=classes - 1)
    raw, _, success = attack(fmodel(net), x[chosen], labels[chosen], epsilons=None)
    assert success.all()
    found = (levels_of(raw) - levels_of(x[chosen])).flatten(1)
    found = found.abs().amax(1) if make is LinfIntegerMinimumNormAttack else found.square().sum(1)
    assert torch.equal(found, torch.stack(optima))


@pytest.mark.parametrize("targeted", [False, True])
def test_near_the_bound_of_larger_linear_models(linear: Linear, targeted: bool) -> None:
    criterion = (TargetedMisclassification if targeted else Misclassification)(
        1 - linear.labels if targeted else linear.labels
    )
    raw, _, success = IntegerMinimumNormAttack()(
        linear.model(), linear.images, criterion, epsilons=None
    )
    assert success.all()
    # Lagrange's dual bounds the integer optimum from below.
    normal = (linear.weight[0] - linear.weight[1]).double() / 255
    margin = ((linear.images.flatten(1) @ normal.float() * 255).abs()).double()
    c = torch.logspace(0, 5, 20000, dtype=torch.float64)[:, None]
    D = (c * normal).round()
    dual = (D.square().sum(1) - 2 * c[:, 0] * (D @ normal))[:, None] + 2 * c * margin
    bound = dual.max(dim=0).values
    found = (levels_of(raw) - levels_of(linear.images)).flatten(1).double()
    assert (found.square().sum(1) >= bound - 1e-3).all()
    assert (found.square().sum(1) <= bound * 1.003 + 2 * found.abs().amax(1)).all()


@pytest.mark.parametrize("make", BOTH)
def test_result_lies_on_the_grid_and_fools_as_png(digits: Digits, make: type[Any]) -> None:
    raw, clipped, success = make()(digits.model(), digits.images, digits.labels, epsilons=None)
    assert success.all()
    assert torch.equal(raw, clipped)
    as_bytes = levels_of(raw).to(torch.uint8)
    assert (raw * 255 - as_bytes).abs().max() < 1e-3
    assert (digits.net(as_bytes.float() / 255).argmax(dim=1) != digits.labels).all()


def test_closer_than_ddn_with_a_fifth_of_the_gradients(digits: Digits) -> None:
    ours, ddn = (
        lengths(
            digits.images,
            attack(digits.model(), digits.images, digits.labels, epsilons=None)[0],
        )
        for attack in (IntegerMinimumNormAttack(steps=20), QuantizedDDNAttack(steps=100))
    )
    assert ours.mean() < ddn.mean()
    assert (ours < ddn * 1.05).all()


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_bounds_change_nothing(
    linear: Linear, digits: Digits, bounds: tuple[int, int], make: type[Any]
) -> None:
    for model in (linear, digits):
        expected, _, _ = make()(model.model(), model.images, model.labels, epsilons=None)
        x = model.images_in(bounds)
        raw, _, success = make()(model.model(bounds), x, model.labels, epsilons=None)
        assert success.all()
        a, b = levels_of(raw, bounds) - levels_of(x, bounds), levels_of(expected - model.images)
        torch.testing.assert_close(
            a.flatten(1).norm(dim=1), b.flatten(1).norm(dim=1), rtol=1e-2, atol=0
        )


@pytest.mark.parametrize("make", BOTH)
def test_alone_or_in_a_batch(digits: Digits, make: type[Any]) -> None:
    model, images, labels = digits.model(), digits.images[:6], digits.labels[:6]
    together, _, _ = make()(model, digits.images, digits.labels, epsilons=None)
    alone = torch.cat(
        [
            make()(model, x[None], label[None], epsilons=None)[0]
            for x, label in zip(images, labels, strict=True)
        ]
    )
    torch.testing.assert_close(
        lengths(images, together[:6]), lengths(images, alone), rtol=1e-2, atol=0
    )


@pytest.mark.parametrize("make", BOTH)
def test_more_steps_come_closer(digits: Digits, make: type[Any]) -> None:
    means = []
    for steps in (1, 5, 20, 60):
        raw, _, success = make(steps=steps)(
            digits.model(), digits.images, digits.labels, epsilons=None
        )
        assert success.all()
        means.append(make.distance(digits.images, raw).mean())
    assert means[0] > means[1] > means[2] > 0.99 * means[3]


def test_the_class_is_chosen_by_distance() -> None:
    # Class 1 has the larger score, class 2 is nearer.
    layer = torch.nn.Linear(48, 3)
    direction = torch.randn(2, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight.copy_(torch.stack([direction[0] * 0, direction[0] * 0.1, direction[1]]))
        layer.bias.copy_(torch.tensor([1.0, 0.5, 0.0]) - layer.weight.sum(dim=1) * 128 / 255)
    model = fmodel(torch.nn.Sequential(torch.nn.Flatten(), layer))
    x, labels = torch.full((1, 3, 4, 4), 128 / 255), torch.zeros(1, dtype=torch.int64)
    one, three = (
        IntegerMinimumNormAttack(candidates=c)(model, x, labels, epsilons=None)[0] for c in (1, 3)
    )
    assert model(one).argmax() == 1
    assert model(three).argmax() == 2
    assert lengths(x, three) < 0.5 * lengths(x, one)


def test_targeted(digits: Digits) -> None:
    targets = (digits.labels + 3) % 10
    for make in BOTH:
        raw, _, success = make(steps=30)(
            digits.model(), digits.images, TargetedMisclassification(targets), epsilons=None
        )
        assert success.all()
        assert (digits.net(raw).argmax(dim=1) == targets).all()
        assert (lengths(digits.images, raw) > 0).all()


@pytest.mark.parametrize("levels", [2, 17, 65536])
def test_other_bit_depths(digits: Digits, levels: int) -> None:
    x = (digits.images * (levels - 1)).round() / (levels - 1)
    labels = digits.net(x).argmax(dim=1)
    raw, _, success = IntegerMinimumNormAttack(levels=levels)(
        digits.model(), x, labels, epsilons=None
    )
    assert success.all()
    k = raw * (levels - 1)
    assert (k - k.round()).abs().max() < 1e-2
    assert lengths(x, raw).mean() < {2: 3, 17: 1.5, 65536: 1.5}[levels]


def test_mask(digits: Digits) -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:6] = True
    for make, given in itertools.product(
        BOTH, (mask, mask.float() * 0.3, mask.expand(16, 1, 8, 8))
    ):
        raw, _, success = make()(
            digits.model(), digits.images, digits.labels, epsilons=None, mask=given
        )
        assert success.all()
        changed = raw != digits.images
        assert not changed[:, :, ~mask].any()
        assert changed[:, :, mask].any(dim=-1).all()
    nothing, _, success = IntegerMinimumNormAttack()(
        digits.model(), digits.images, digits.labels, epsilons=None, mask=mask & ~mask
    )
    assert not success.any()
    assert torch.equal(nothing, digits.images)


@pytest.mark.parametrize("make", BOTH)
def test_weights_move_the_perturbation(digits: Digits, make: type[Any]) -> None:
    weights = torch.ones(1, 8, 8)
    weights[..., :4] = 9

    def measure(factor: float | None) -> Any:
        attack = make(weights=factor and (lambda x: ep.astensor(weights * factor) + 0 * x))
        r = attack.run(digits.model(), digits.images, digits.labels) - digits.images
        assert (digits.net(digits.images + r).argmax(dim=1) != digits.labels).all()
        if make is IntegerMinimumNormAttack:
            return (r * weights.sqrt()).flatten(1).norm(dim=1)
        return (r * weights).flatten(1).abs().amax(dim=1)

    assert (measure(1) < measure(None)).float().mean() > 0.9
    # A common factor changes nothing.
    torch.testing.assert_close(measure(1024), measure(1), rtol=1e-2, atol=0)


def test_hides_where_the_image_is_busy(digits: Digits) -> None:
    visibility = noise_visibility(ep.astensor(digits.images)).raw
    plain, hidden = (
        IntegerMinimumNormAttack(weights=w).run(digits.model(), digits.images, digits.labels)
        - digits.images
        for w in (None, "visibility")
    )
    share = [(r.square() * visibility).sum() / r.square().sum() for r in (plain, hidden)]
    assert share[1] < 0.7 * share[0]


def test_misclassified_inputs_come_back_untouched(digits: Digits) -> None:
    labels = digits.labels.clone()
    labels[::2] = (labels[::2] + 1) % 10
    for make in BOTH:
        raw, _, success = make()(digits.model(), digits.images, labels, epsilons=None)
        assert success.all()
        assert torch.equal(raw[::2], digits.images[::2])
        assert (lengths(digits.images, raw)[1::2] > 0).all()


class Constant(torch.nn.Module):
    """Differentiable, but the same for every input."""

    def forward(self, x: Any) -> Any:
        return torch.stack([x.flatten(1).sum(dim=1) * 0 + 1, x.flatten(1).sum(dim=1) * 0], dim=1)


class Flat(torch.nn.Module):
    """Class 1, the runner-up, is out of reach and its lead has no gradient; class 2 is not."""

    def forward(self, x: Any) -> Any:
        s = x.flatten(1).mean(dim=1)
        return torch.stack([0 * s + 1, 0 * s + 0.9, 2 * s - 0.5], dim=1)


@pytest.mark.parametrize("make", BOTH)
def test_without_gradient(make: type[Any]) -> None:
    x, labels = torch.full((2, 1, 4, 4), 51 / 255), torch.zeros(2, dtype=torch.int64)
    raw, _, success = make(steps=100)(fmodel(Constant()), x, labels, epsilons=None)
    assert not success.any()
    assert torch.equal(raw, x)
    raw, _, success = make()(fmodel(Flat()), x, labels, epsilons=None)
    assert success.all()
    assert not torch.equal(raw, x)


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_flat_and_saturated_images(digits: Digits, make: type[Any], value: float) -> None:
    x = torch.full((1, 1, 8, 8), value)
    raw, _, success = make()(digits.model(), x, digits.net(x).argmax(dim=1), epsilons=None)
    assert success.all()
    assert raw.min() >= 0
    assert raw.max() <= 1


@pytest.mark.parametrize("targeted", [False, True])
def test_forward_and_backward_passes(digits: Digits, targeted: bool) -> None:
    calls = []
    digits_model = digits.model()

    class Counting(foolbox.models.Model):
        bounds = digits_model.bounds

        def __call__(self, inputs: Any) -> Any:
            x = ep.astensor(inputs)
            calls.append(x.raw.requires_grad)
            return digits_model(inputs)

    criterion = (TargetedMisclassification if targeted else Misclassification)(digits.labels)
    attack = IntegerMinimumNormAttack(steps=12, forwards=5)
    attack.run(Counting(), digits.images, criterion)
    assert calls == [True] * 12 + [False] * 5


def test_steps_do_not_wait_for_the_device(digits: Digits, monkeypatch: Any) -> None:
    reads = []
    for name in ("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__"):
        real = getattr(torch.Tensor, name)

        def reading(tensor: Any, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            reads.append(real)
            return real(tensor, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, reading)

    def count(**parameters: Any) -> int:
        reads.clear()
        IntegerMinimumNormAttack(**parameters).run(digits.model(), digits.images, digits.labels)
        return len(reads)

    assert count(steps=2, candidates=1, forwards=0) > 0  # the checks at the door
    assert count(steps=2, candidates=1, forwards=0) == count(steps=20, candidates=4, forwards=8)


def test_leaves_the_caller_and_the_model_alone(digits: Digits) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).train()
    with pytest.warns(UserWarning, match="training mode"):
        model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    x, labels, mask = digits.images.clone(), digits.labels.clone(), torch.ones(8, 8)
    state = torch.get_rng_state()
    IntegerMinimumNormAttack()(model, x, labels, epsilons=[0.1, None], mask=mask)
    assert torch.equal(x, digits.images)
    assert torch.equal(labels, digits.labels)
    assert torch.equal(mask, torch.ones(8, 8))
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_eagerpy_tensors_int32_labels_and_float64(digits: Digits) -> None:
    attack, model = IntegerMinimumNormAttack(), digits.model()
    native, _, _ = attack(model, digits.images, digits.labels, epsilons=None)
    eager, _, _ = attack(
        model, ep.astensor(digits.images), ep.astensor(digits.labels.int()), epsilons=None
    )
    assert isinstance(eager, ep.PyTorchTensor)
    assert torch.equal(native, eager.raw)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).double()
    x = levels_of(digits.images).double() / 255
    raw, _, _ = attack(fmodel(net), x, net(x).argmax(dim=1), epsilons=None)
    assert raw.dtype == torch.float64


def test_epsilons_and_repeat(digits: Digits) -> None:
    attack, model = IntegerMinimumNormAttack(), digits.model()
    raws, clipped, success = attack(model, digits.images, digits.labels, epsilons=[0.0, 0.5, None])
    assert len(raws) == len(clipped) == 3
    assert not success[0].any()
    assert success[2].all()
    repeated, _, again = attack.repeat(2)(model, digits.images, digits.labels, epsilons=None)
    assert torch.equal(repeated, raws[2])
    assert again.all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"steps": 0}, "steps >= 1"),
        ({"forwards": -1}, "forwards >= 0"),
        ({"candidates": 0}, "candidates from 1 to steps = 20"),
        ({"candidates": 21}, "candidates from 1 to steps = 20"),
        ({"levels": None}, "digital images"),
        ({"levels": 1}, "levels to be None"),
        ({"weights": "smooth"}, "weights to be None, 'visibility' or a function"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IntegerMinimumNormAttack(**parameters)


def test_inputs_are_checked(digits: Digits) -> None:
    attack, model, x, labels = (
        IntegerMinimumNormAttack(),
        digits.model(),
        digits.images,
        digits.labels,
    )
    wrong: list[tuple[Any, str]] = [
        (torch.ones(7, 8), r"mask that broadcasts to the inputs \(16, 1, 8, 8\)"),
        (torch.ones(16, 3, 8, 8), "mask that broadcasts"),
        (np.ones((8, 8)), "mask of the framework of the inputs, PyTorchTensor"),
        ([[1.0]], "mask of the framework of the inputs, PyTorchTensor, got list"),
    ]
    for mask, message in wrong:
        with pytest.raises(ValueError, match=message):
            attack(model, x, labels, epsilons=None, mask=mask)
    with pytest.raises(ValueError, match=r"expected weights to return a tensor .*got float"):
        IntegerMinimumNormAttack(weights=lambda x: 1.0)(model, x, labels, epsilons=None)
    with pytest.raises(ValueError, match="expected weights to return positive numbers"):
        IntegerMinimumNormAttack(weights=ep.zeros_like)(model, x, labels, epsilons=None)
    with pytest.raises(ValueError, match="on the grid of 256 levels"):
        attack(model, x * 0.999, labels, epsilons=None)
    with pytest.raises(ValueError, match="unsupported criterion"):
        attack(model, x, Misclassification(labels) & Misclassification(labels), epsilons=None)
    with pytest.raises(TypeError, match="unexpected keyword"):
        attack(model, x, labels, epsilons=None, masks=None)


def test_jax_agrees_with_pytorch(linear: Linear) -> None:
    jnp = pytest.importorskip("jax.numpy")
    weight = jnp.asarray(linear.weight.numpy())
    model = foolbox.JAXModel(
        lambda x: x.reshape((len(x), -1)) @ weight.T, bounds=(0, 1), data_format="channels_first"
    )
    images, labels = jnp.asarray(linear.images.numpy()), jnp.asarray(linear.labels.numpy())
    attack = IntegerMinimumNormAttack(steps=3, forwards=3)
    raw, _, success = attack(model, images, labels, epsilons=None, mask=jnp.ones((8, 8)))
    assert bool(success.all())
    expected, _, _ = attack(linear.model(), linear.images, linear.labels, epsilons=None)
    distance = lengths(linear.images, torch.from_numpy(np.array(raw)))
    torch.testing.assert_close(distance, lengths(linear.images, expected), rtol=1e-3, atol=0)
