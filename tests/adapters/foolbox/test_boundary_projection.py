from __future__ import annotations

from typing import Any

import eagerpy as ep
import foolbox
import numpy as np
import pytest
from foolbox.criteria import Misclassification, TargetedMisclassification

from foolart.adapters.foolbox.boundary_projection import BoundaryProjectionAttack
from tests.networks import Digits, Linear

torch = pytest.importorskip("torch")

BOUNDS = [(0, 1), (-1, 1), (0, 255)]


def lengths(x: Any, y: Any) -> Any:
    return (y - x).flatten(1).norm(dim=1)


def levels_of(x: Any, bounds: tuple[float, float] = (0, 1)) -> Any:
    lower, upper = bounds
    return (x - lower) * 255 / (upper - lower)


@pytest.mark.parametrize("levels", [None, 256])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("loss", ["margin", "log_probability"])
def test_comes_close_to_the_true_distance_of_a_linear_model(
    linear: Linear, levels: int | None, targeted: bool, loss: str
) -> None:
    criterion = (TargetedMisclassification if targeted else Misclassification)(
        1 - linear.labels if targeted else linear.labels
    )
    attack = BoundaryProjectionAttack(levels=levels, loss=loss)
    raw, _, success = attack(linear.model(), linear.images, criterion, epsilons=None)
    assert success.all()
    true = linear.distances()
    assert (true > 5 / 255).all()  # a level is small against it
    ratio = lengths(linear.images, raw) / true
    assert (ratio >= 1 - 1e-5).all()
    assert (ratio <= 1.25).all()


def test_result_lies_on_the_grid_and_fools_as_png(digits: Digits) -> None:
    raw, clipped, success = BoundaryProjectionAttack()(
        digits.model(), digits.images, digits.labels, epsilons=None
    )
    assert success.all()
    assert torch.equal(raw, clipped)
    as_bytes = levels_of(raw).round().to(torch.uint8)
    read = as_bytes.float() / 255
    assert (levels_of(raw) - as_bytes).abs().max() < 1e-3
    assert (digits.net(read).argmax(dim=1) != digits.labels).all()


@pytest.mark.parametrize("bounds", BOUNDS)
def test_bounds_change_nothing(linear: Linear, digits: Digits, bounds: tuple[int, int]) -> None:
    for model in (linear, digits):
        attack = BoundaryProjectionAttack()
        expected, _, _ = attack(model.model(), model.images, model.labels, epsilons=None)
        x = model.images_in(bounds)
        raw, _, success = attack(model.model(bounds), x, model.labels, epsilons=None)
        assert success.all()
        distance = lengths(x, raw) / (bounds[1] - bounds[0])
        if model is linear:  # the same levels
            assert torch.equal(levels_of(raw, bounds).round(), levels_of(expected).round())
        torch.testing.assert_close(distance, lengths(model.images, expected), rtol=1e-2, atol=0)


def test_alone_or_in_a_batch(linear: Linear, digits: Digits) -> None:
    attack = BoundaryProjectionAttack()
    for model in (linear, digits):
        fmodel = model.model()
        together, _, _ = attack(fmodel, model.images, model.labels, epsilons=None)
        alone = torch.cat(
            [
                attack(fmodel, x[None], label[None], epsilons=None)[0]
                for x, label in zip(model.images[:4], model.labels[:4], strict=True)
            ]
        )
        a, b = (lengths(model.images[:4], y[:4]) for y in (together, alone))
        torch.testing.assert_close(a, b, rtol=1e-2, atol=0)


def test_more_steps_come_closer(digits: Digits) -> None:
    means = []
    for steps in (5, 20, 60):
        attack = BoundaryProjectionAttack(steps=steps)
        raw, _, _ = attack(digits.model(), digits.images, digits.labels, epsilons=None)
        means.append(lengths(digits.images, raw).mean())
    assert means[0] > means[1] >= means[2]


def test_misclassified_inputs_come_back_untouched(digits: Digits) -> None:
    labels = (digits.labels + 1) % 10
    raw, _, success = BoundaryProjectionAttack()(
        digits.model(), digits.images, labels, epsilons=None
    )
    assert success.all()
    assert torch.equal(raw, digits.images)


class Constant(torch.nn.Module):
    """Differentiable, but the same for every input."""

    def forward(self, x: Any) -> Any:
        return torch.stack([x.flatten(1).sum(dim=1) * 0 + 1, x.flatten(1).sum(dim=1) * 0], dim=1)


def test_failure_returns_the_input() -> None:
    model = foolbox.PyTorchModel(Constant().eval(), bounds=(0, 1), device="cpu")
    x, labels = torch.full((2, 1, 4, 4), 51 / 255), torch.zeros(2, dtype=torch.int64)
    raw, _, success = BoundaryProjectionAttack()(model, x, labels, epsilons=None)
    assert not success.any()
    assert torch.equal(raw, x)


def test_forward_and_backward_passes(digits: Digits) -> None:
    calls = []
    digits_model = digits.model()

    class Counting(foolbox.models.Model):
        bounds = digits_model.bounds

        def __call__(self, inputs: Any) -> Any:
            x = ep.astensor(inputs)
            calls.append(x.raw.requires_grad)
            return digits_model(inputs)

    BoundaryProjectionAttack(steps=7).run(Counting(), digits.images, digits.labels)
    assert calls == [True] * 7 + [False]


def test_leaves_the_caller_and_the_model_alone(digits: Digits) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).train()
    with pytest.warns(UserWarning, match="training mode"):
        model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    x, labels = digits.images.clone(), digits.labels.clone()
    state = torch.get_rng_state()
    BoundaryProjectionAttack()(model, x, labels, epsilons=[0.1, None])
    assert torch.equal(x, digits.images)
    assert torch.equal(labels, digits.labels)
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_eagerpy_tensors_int32_labels_and_float64(digits: Digits) -> None:
    attack, fmodel = BoundaryProjectionAttack(), digits.model()
    native, _, _ = attack(fmodel, digits.images, digits.labels, epsilons=None)
    eager, _, _ = attack(
        fmodel, ep.astensor(digits.images), ep.astensor(digits.labels.int()), epsilons=None
    )
    assert isinstance(eager, ep.PyTorchTensor)
    assert torch.equal(native, eager.raw)
    x = digits.images.double()
    model = foolbox.PyTorchModel(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).double().eval(),
        bounds=(0, 1),
        device="cpu",
    )
    raw, _, _ = attack(model, x, digits.labels, epsilons=None)
    assert raw.dtype == torch.float64


def test_epsilons_and_repeat(digits: Digits) -> None:
    attack, fmodel = BoundaryProjectionAttack(), digits.model()
    raws, clipped, success = attack(fmodel, digits.images, digits.labels, epsilons=[0.0, 0.5, None])
    assert len(raws) == len(clipped) == 3
    assert success.shape == (3, len(digits.images))
    assert not success[0].any()
    assert success[2].all()
    repeated, _, again = attack.repeat(2)(fmodel, digits.images, digits.labels, epsilons=None)
    assert torch.equal(repeated, raws[2])
    assert again.all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"steps": 0}, "steps >= 1"),
        ({"alpha": 0.0}, "alpha > 0"),
        ({"gamma_min": 1.0}, "gamma_min between 0 and 1"),
        ({"loss": "hinge"}, "loss to be one of"),
        ({"levels": 1}, "levels to be None"),
        ({"levels": 2.5}, "levels to be None"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoundaryProjectionAttack(**parameters)


def test_inputs_are_checked(digits: Digits) -> None:
    attack, fmodel, x, labels = (
        BoundaryProjectionAttack(),
        digits.model(),
        digits.images,
        digits.labels,
    )
    nan = x.clone()
    nan[0, 0, 0, 0] = torch.nan
    wrong: list[tuple[Any, Any, str]] = [
        (x * 2, labels, r"within model.bounds \(0.*, 1.*\), got values from"),
        (nan, labels, "without NaN"),
        ((x * 255).to(torch.uint8), labels, "float dtype"),
        (x[0, 0, 0], labels, "batch of inputs"),
        (x[:0], labels[:0], "non-empty batch"),
        (x, labels[:-1], r"labels to have shape"),
        (x, labels.float(), "labels of an integer dtype"),
        (x, labels.numpy(), "labels of the framework of the inputs"),
        (x * 0.999, labels, "on the grid of 256 levels"),
    ]
    for inputs, classes, message in wrong:
        with pytest.raises(ValueError, match=message):
            attack(fmodel, inputs, classes, epsilons=None)
    with pytest.raises(ValueError, match="epsilons to be finite"):
        attack(fmodel, x, labels, epsilons=-1.0)
    with pytest.raises(ValueError, match="unsupported criterion"):
        attack(fmodel, x, Misclassification(labels) & Misclassification(labels), epsilons=None)
    with pytest.raises(TypeError, match="unexpected keyword"):
        attack(fmodel, x, labels, epsilons=None, mask=None)


def test_models_are_checked(digits: Digits) -> None:
    class Detached(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return digits.net(x.detach())

    class OneLogit(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return digits.net(x)[:, :1]

    for net, message in ((Detached(), "no gradient reaches"), (OneLogit(), "at least two classes")):
        model = foolbox.PyTorchModel(net.eval(), bounds=(0, 1), device="cpu")
        with pytest.raises(ValueError, match=message):
            BoundaryProjectionAttack()(model, digits.images, digits.labels, epsilons=None)


def test_numpy_model_has_no_gradients(linear: Linear) -> None:
    weight = linear.weight.numpy()
    model = foolbox.NumPyModel(
        lambda x: x.reshape(len(x), -1) @ weight.T, bounds=(0, 1), data_format="channels_first"
    )
    with pytest.raises(ValueError, match="model with gradients"):
        BoundaryProjectionAttack()(
            model, linear.images.numpy(), linear.labels.numpy(), epsilons=None
        )


def test_jax_agrees_with_pytorch(linear: Linear) -> None:
    jnp = pytest.importorskip("jax.numpy")
    weight = jnp.asarray(linear.weight.numpy())
    model = foolbox.JAXModel(
        lambda x: x.reshape((len(x), -1)) @ weight.T, bounds=(0, 1), data_format="channels_first"
    )
    images, labels = jnp.asarray(linear.images.numpy()), jnp.asarray(linear.labels.numpy())
    raw, _, success = BoundaryProjectionAttack()(model, images, labels, epsilons=None)
    assert bool(success.all())
    expected, _, _ = BoundaryProjectionAttack()(
        linear.model(), linear.images, linear.labels, epsilons=None
    )
    np.testing.assert_array_equal(np.rint(np.asarray(raw) * 255), np.rint(expected.numpy() * 255))
