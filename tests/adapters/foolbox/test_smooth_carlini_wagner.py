from __future__ import annotations

from typing import Any

import eagerpy as ep
import foolbox
import numpy as np
import pytest
from foolbox.criteria import Misclassification, TargetedMisclassification

from foolart.adapters.foolbox import SmoothCarliniWagnerAttack
from foolart.plugins.smoothing import GuidedSmoothing
from tests.networks import Digits, Linear

torch = pytest.importorskip("torch")

QUICK = {"binary_search_steps": 3, "steps": 20, "initial_const": 10.0, "alpha": 0.9}
FORMS = ["constraint", "penalty", "relaxation", "free"]


def lengths(x: Any, y: Any) -> Any:
    return (y - x).flatten(1).norm(dim=1)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("form", ["constraint", "free"])
def test_comes_close_to_the_true_distance_of_a_linear_model(
    linear: Linear, form: str, targeted: bool
) -> None:
    criterion = (TargetedMisclassification if targeted else Misclassification)(
        1 - linear.labels if targeted else linear.labels
    )
    attack = SmoothCarliniWagnerAttack(
        binary_search_steps=5, steps=100, stepsize=0.02, initial_const=0.1, alpha=0.5,
        smoothness=form,
    )  # fmt: skip
    raw, _, success = attack(linear.model(), linear.images, criterion, epsilons=None)
    assert success.all()
    ratio = lengths(linear.images, raw) / linear.distances()
    assert (ratio >= 1 - 1e-5).all()
    assert (ratio <= 1.1).all()


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 255)])
def test_the_second_iterate_by_hand(linear: Linear, bounds: tuple[int, int]) -> None:
    # A first step of Adam is as long as the step size in every element that has a gradient, here
    # far enough to fool the model: the second iterate is what the attack returns.
    x = linear.images
    smoothing = GuidedSmoothing(x, 0.9, "gaussian", 0.2)
    weight = linear.weight[linear.labels] - linear.weight[1 - linear.labels]
    r = smoothing(-0.2 * smoothing.adjoint(weight.view(x.shape)).sign())
    attack = SmoothCarliniWagnerAttack(
        binary_search_steps=1, steps=2, stepsize=0.2, initial_const=10.0,
        alpha=0.9, kernel="gaussian", bandwidth=0.2,
    )  # fmt: skip
    raw, _, success = attack(
        linear.model(bounds), linear.images_in(bounds), linear.labels, epsilons=None
    )
    assert success.all()
    lower, upper = bounds
    np.testing.assert_allclose((raw - lower) / (upper - lower), (x + r).clip(0, 1), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_fools_within_bounds(digits: Digits, form: str) -> None:
    attack = SmoothCarliniWagnerAttack(**QUICK, smoothness=form)
    copy = digits.images.clone()
    raw, clipped, success = attack(digits.model(), digits.images, digits.labels, epsilons=None)
    assert success.all()
    assert torch.equal(raw, clipped)
    assert (digits.net(raw).argmax(dim=1) != digits.labels).all()
    assert torch.equal(digits.images, copy)


def test_smoothing_smooths(digits: Digits) -> None:
    x = digits.images
    roughness = GuidedSmoothing(x, 0).roughness
    energy = {}
    for form in FORMS:
        attack = SmoothCarliniWagnerAttack(**QUICK, smoothness=form, mu=10.0)
        r = attack(digits.model(), x, digits.labels, epsilons=None)[0] - x
        energy[form] = ((r * roughness(r)).sum() / r.square().sum()).item()
    assert energy["constraint"] < energy["free"] / 2
    assert energy["penalty"] < 0.8 * energy["free"]
    assert energy["relaxation"] < energy["free"]


def test_alpha_zero_is_the_attack_without_smoothing(digits: Digits) -> None:
    parameters = {**QUICK, "alpha": 0.0}
    results = [
        SmoothCarliniWagnerAttack(**parameters, smoothness=form)(
            digits.model(), digits.images, digits.labels, epsilons=None
        )[0]
        for form in ("constraint", "free")
    ]
    torch.testing.assert_close(*results, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bounds", [(-1, 1), (0, 255)])
def test_bounds_change_nothing(digits: Digits, bounds: tuple[int, int]) -> None:
    attack = SmoothCarliniWagnerAttack(**QUICK)
    expected = attack(digits.model(), digits.images, digits.labels, epsilons=None)[0]
    x = digits.images_in(bounds)
    raw, _, success = attack(digits.model(bounds), x, digits.labels, epsilons=None)
    assert success.all()
    distance = lengths(x, raw) / (bounds[1] - bounds[0])
    torch.testing.assert_close(distance, lengths(digits.images, expected), rtol=1e-2, atol=0)


@pytest.mark.parametrize("abort_early", [False, True])
def test_alone_or_in_a_batch(digits: Digits, abort_early: bool) -> None:
    attack = SmoothCarliniWagnerAttack(**QUICK, abort_early=abort_early)
    model = digits.model()
    together = attack(model, digits.images, digits.labels, epsilons=None)[0]
    for i in range(4):
        x = digits.images[i : i + 1]
        alone = attack(model, x, digits.labels[i : i + 1], epsilons=None)[0]
        torch.testing.assert_close(
            lengths(x, alone), lengths(x, together[i : i + 1]), rtol=1e-2, atol=0
        )


def test_abort_early_saves_gradients(digits: Digits) -> None:
    means, gradients = [], []
    for abort_early in (False, True):
        model = Counting(digits.model())
        attack = SmoothCarliniWagnerAttack(
            **{**QUICK, "steps": 100, "stepsize": 0.3}, abort_early=abort_early
        )
        raw, _, success = attack(model, digits.images, digits.labels, epsilons=None)
        assert success.all()
        means.append(lengths(digits.images, raw).mean())
        gradients.append(model.calls)
    assert gradients[1] < gradients[0]
    assert means[0] <= means[1] < 1.3 * means[0]


class Counting(foolbox.models.base.Model):
    """A Foolbox model that counts its calls."""

    def __init__(self, model: Any) -> None:
        self.model, self.calls = model, 0
        self.data_format = model.data_format

    @property
    def bounds(self) -> Any:
        return self.model.bounds

    def __call__(self, inputs: Any) -> Any:
        self.calls += 1
        return self.model(inputs)


def test_one_forward_pass_a_step_and_one_more(digits: Digits) -> None:
    model = Counting(digits.model())
    attack = SmoothCarliniWagnerAttack(**QUICK)
    attack.run(model, digits.images, digits.labels)
    assert model.calls == 3 * 20 + 1


def test_steps_do_not_wait_for_the_device(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for steps in (4, 8):
        calls = 0

        def counted(tensor: Any, method: Any = torch.Tensor.item) -> Any:
            nonlocal calls
            calls += 1
            return method(tensor)

        def truth(tensor: Any, method: Any = torch.Tensor.__bool__) -> Any:
            nonlocal calls
            calls += 1
            return method(tensor)

        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "item", counted)
            patch.setattr(torch.Tensor, "__bool__", truth)
            attack = SmoothCarliniWagnerAttack(**{**QUICK, "steps": steps})
            attack.run(digits.model(), digits.images, digits.labels)
        counts.append(calls)
    assert counts[0] == counts[1] > 0


def test_confidence_is_a_margin(digits: Digits) -> None:
    attack = SmoothCarliniWagnerAttack(**{**QUICK, "steps": 50}, confidence=2.0)
    raw, _, success = attack(digits.model(), digits.images, digits.labels, epsilons=None)
    assert success.all()
    logits = digits.net(raw)
    own = logits.gather(1, digits.labels[:, None])
    others = logits.scatter(1, digits.labels[:, None], -torch.inf).amax(dim=1, keepdim=True)
    assert (others - own >= 2 - 1e-4).all()


@pytest.mark.parametrize("confidence", [0.0, 5.0])
def test_misclassified_inputs_come_back_untouched(digits: Digits, confidence: float) -> None:
    labels = (digits.labels + 1) % 10
    attack = SmoothCarliniWagnerAttack(**QUICK, confidence=confidence)
    raw, _, success = attack(digits.model(), digits.images, labels, epsilons=None)
    assert success.all()
    assert torch.equal(raw, digits.images)


class Constant(torch.nn.Module):
    """Differentiable, but the same for every input."""

    def forward(self, x: Any) -> Any:
        return torch.stack([x.flatten(1).sum(dim=1) * 0 + 1, x.flatten(1).sum(dim=1) * 0], dim=1)


@pytest.mark.parametrize("form", FORMS)
def test_failure_returns_the_input(form: str) -> None:
    model = foolbox.PyTorchModel(Constant().eval(), bounds=(0, 1), device="cpu")
    x, labels = torch.full((2, 1, 4, 4), 51 / 255), torch.zeros(2, dtype=torch.int64)
    attack = SmoothCarliniWagnerAttack(**QUICK, smoothness=form)
    raw, _, success = attack(model, x, labels, epsilons=None)
    assert not success.any()
    assert torch.equal(raw, x)


def test_the_model_is_left_as_it_was(digits: Digits) -> None:
    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    model = foolbox.PyTorchModel(layer, bounds=(0, 1), device="cpu")
    SmoothCarliniWagnerAttack(**QUICK).run(model, digits.images, digits.labels)
    assert all(p.requires_grad and p.grad is None for p in layer.parameters())


class Transposed(torch.nn.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        return self.net(x.permute(0, 3, 1, 2))


def channels_last(net: Any, data_format: str | None) -> foolbox.PyTorchModel:
    model = foolbox.PyTorchModel(Transposed(net).eval(), bounds=(0, 1), device="cpu")
    model.data_format = data_format
    return model


@pytest.mark.parametrize("data_format", ["channels_last", None])
def test_channels_last(digits: Digits, data_format: str | None) -> None:
    attack = SmoothCarliniWagnerAttack(**QUICK)
    first = attack(digits.model(), digits.images, digits.labels, epsilons=None)[0]
    x = digits.images.permute(0, 2, 3, 1)
    last = attack(channels_last(digits.net, data_format), x, digits.labels, epsilons=None)[0]
    torch.testing.assert_close(last.permute(0, 3, 1, 2), first, rtol=0, atol=1e-3)


def test_only_an_ambiguous_layout_is_an_error() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(63, 2)).eval()
    x, labels = torch.rand(2, 3, 7, 3), torch.zeros(2, dtype=torch.int64)
    model = channels_last(net, None)
    with pytest.raises(ValueError, match="the layout of inputs of shape"):
        SmoothCarliniWagnerAttack(**QUICK).run(model, x, labels)
    for axis in (1, 3, -1):
        SmoothCarliniWagnerAttack(**QUICK, channel_axis=axis).run(model, x, labels)
    model.data_format = "channels_last"
    SmoothCarliniWagnerAttack(**QUICK).run(model, x, labels)
    with pytest.raises(ValueError, match="batch of images"):
        SmoothCarliniWagnerAttack(**QUICK).run(model, x.flatten(1), labels)
    SmoothCarliniWagnerAttack(**QUICK, smoothness="free").run(
        foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu"), x.flatten(1), labels
    )


@pytest.mark.slow
def test_jax(linear: Linear) -> None:
    jnp = pytest.importorskip("jax.numpy")
    weight = jnp.asarray(linear.weight.T.numpy())
    model = foolbox.JAXModel(
        lambda x: x.reshape((len(x), -1)) @ weight, bounds=(0, 1), data_format="channels_first"
    )
    attack = SmoothCarliniWagnerAttack(**{**QUICK, "binary_search_steps": 1, "steps": 5})
    expected = attack(linear.model(), linear.images, linear.labels, epsilons=None)[0]
    x, y = jnp.asarray(linear.images.numpy()), jnp.asarray(linear.labels.numpy())
    raw, _, success = attack(model, x, y, epsilons=None)
    assert bool(success.all())
    np.testing.assert_allclose(np.asarray(raw), expected, atol=1e-5)


def test_toolkit_conventions(digits: Digits) -> None:
    attack = SmoothCarliniWagnerAttack(**QUICK)
    x, labels = ep.astensor(digits.images), ep.astensor(digits.labels)
    raw, _, success = attack(digits.model(), x, labels, epsilons=[0.1, None])
    assert isinstance(raw[0], ep.Tensor)
    assert success.shape == (2, 16)
    repeated = attack.repeat(2)(digits.model(), digits.images, digits.labels, epsilons=None)[0]
    torch.testing.assert_close(repeated, raw[1].raw)
    assert "alpha=0.9" in repr(attack)


def test_presets() -> None:
    mnist = SmoothCarliniWagnerAttack.mnist()
    assert (mnist.alpha, mnist.initial_const, mnist.stepsize) == (0.95, 15.0, 0.1)
    assert mnist.confidence == 1.0
    imagenet = SmoothCarliniWagnerAttack.imagenet(steps=50, alpha=0.99)
    assert (imagenet.alpha, imagenet.initial_const, imagenet.steps) == (0.99, 100.0, 50)
    assert imagenet.confidence == 0.0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"binary_search_steps": 0}, "binary_search_steps >= 1"),
        ({"steps": 0}, "steps >= 1"),
        ({"stepsize": 0.0}, "stepsize > 0"),
        ({"confidence": -1.0}, "confidence >= 0"),
        ({"initial_const": 0.0}, "initial_const > 0"),
        ({"alpha": 1.0}, "alpha in"),
        ({"kernel": "box"}, "kernel to be one of"),
        ({"bandwidth": 0.0}, "bandwidth to be positive"),
        ({"smoothness": "always"}, "smoothness to be one of"),
        ({"mu": -1.0}, "mu >= 0"),
        ({"channel_axis": 2}, "channel_axis to be None"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothCarliniWagnerAttack(**parameters)


def test_images_below_2x2(digits: Digits) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 2)).eval()
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    with pytest.raises(ValueError, match="at least 2x2"):
        SmoothCarliniWagnerAttack().run(model, torch.rand(1, 1, 1, 8), torch.tensor([0]))
