from __future__ import annotations

import re
import warnings

import foolbox
import numpy as np
import pytest
import torch

from foolart.adapters.foolbox import (
    BoundaryProjectionAttack,
    Quantized,
    SmoothL2ProjectedGradientDescentAttack,
)

ATTACKS = {
    "own": lambda: BoundaryProjectionAttack(steps=2),
    "wrapped": lambda: Quantized(foolbox.attacks.DDNAttack(steps=2)),
}


@pytest.fixture(params=ATTACKS)
def attack(request):
    return ATTACKS[request.param]()


def refused(attack, model, images, labels, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        attack(model, images, labels, epsilons=None)


def test_a_bare_network_is_to_be_wrapped(attack, digits):
    refused(attack, digits.net, digits.images, digits.labels, "expected a Foolbox model, got Seq")


def test_arrays_and_lists_are_to_be_tensors(attack, digits):
    model, x, y = digits.model(), digits.images, digits.labels
    refused(attack, model, x.numpy(), y.numpy(), "torch.from_numpy(images)")
    refused(attack, model, x, y.tolist(), "torch.tensor(labels)")


def test_channels_last_are_to_be_permuted(attack, digits):
    last = digits.images.permute(0, 2, 3, 1)
    refused(attack, digits.model(), last, digits.labels, "images.permute(0, 3, 1, 2)")


@pytest.mark.parametrize("rows", [0, slice(0, 1)])
def test_one_image_is_to_be_a_batch(attack, digits, rows):
    model = digits.model()
    refused(attack, model, digits.images[0], digits.labels[rows], "look like one image: pass a ba")


def test_an_error_of_the_network_that_is_not_about_axes_is_left_alone(attack, digits):
    def broken(x):
        raise RuntimeError("of its own")

    model = foolbox.PyTorchModel(torch.nn.Identity().eval(), bounds=(0, 1), device="cpu")
    model._model = broken
    with pytest.raises(RuntimeError, match="of its own"):
        attack(model, digits.images, digits.labels, epsilons=None)


def test_labels_that_no_class_has_are_refused_or_doubted(attack, digits):
    model, x, y = digits.model(), digits.images, digits.labels
    refused(attack, model, x, y - 10, "expected labels >= 0")
    if isinstance(attack, Quantized):  # Foolbox's loss looks them up
        refused(attack, model, x, y + 10, "below the number of the model's classes")
    else:
        with pytest.warns(UserWarning, match="before the attack"):
            attack(model, x, y + 10, epsilons=None)


@pytest.mark.parametrize("epsilons", [None, 0.5, [0.1, 0.5]])
def test_labels_of_another_numbering_are_doubted(attack, digits, epsilons):
    shifted = (digits.labels + 1) % 10
    with pytest.warns(UserWarning, match=rf"all {len(shifted)} inputs were adversarial before"):
        attack(digits.model(), digits.images, shifted, epsilons=epsilons)


def test_a_few_or_some_misclassified_images_are_no_reason_for_doubt(attack, digits):
    model, x, y = digits.model(), digits.images, digits.labels
    wrong = (y + 1) % 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attack(model, x[:3], wrong[:3], epsilons=None)
        attack(model, x, torch.cat([wrong[:-1], y[-1:]]), epsilons=None)


def test_values_outside_the_bounds_are_traced_to_their_source(attack, digits):
    model, x, y = digits.model(), digits.images, digits.labels
    refused(attack, model, x * 255, y, "images / 255 has these bounds")
    refused(attack, model, (x - 0.45) / 0.22, y, "are the images normalised already?")
    refused(attack, model, x * 1000, y, "rescale the images or declare the bounds they have")


def test_labels_that_are_no_numbers_of_classes_are_refused_with_the_cure(attack, digits):
    model, x, y = digits.model(), digits.images, digits.labels
    refused(attack, model, x, y.numpy(), "torch.from_numpy(labels)")
    refused(attack, model, x, y.float(), "labels.long()")
    refused(attack, model, x, torch.nn.functional.one_hot(y, 10), "labels.argmax(-1)")


@pytest.mark.parametrize("axis", [{}, {"axis": -1}])
def test_a_normalisation_along_the_wrong_axis_is_explained(attack, axis):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10)).eval()
    preprocessing = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2], **axis}
    model = foolbox.PyTorchModel(network, bounds=(0, 1), preprocessing=preprocessing, device="cpu")
    images, labels = torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)
    refused(attack, model, images, labels, 'add "axis": -3 to the preprocessing')


def test_inputs_of_another_precision_than_the_networks_are_explained(attack, digits):
    images = digits.images.double()
    refused(attack, digits.model(), images, digits.labels, "the inputs' dtype, torch.float64?")


class Returning(torch.nn.Module):
    """A network whose forward returns its scores in something."""

    def __init__(self, network, pack):
        super().__init__()
        self.network, self.pack = network, pack

    def forward(self, x):
        return self.pack(self.network(x))


@pytest.mark.parametrize(
    "pack",
    [lambda z: (z, z), lambda z: [z], lambda z: {"logits": z}, lambda z: None],
    ids=["tuple", "list", "dict", "nothing"],
)
def test_a_network_that_returns_no_tensor_is_to_be_wrapped(attack, digits, pack):
    network = Returning(digits.net, pack).eval()
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    words = "expected the model to return one tensor of scores (N, C), got another type (Unknown"
    refused(attack, model, digits.images, digits.labels, words)


def test_what_is_no_tensor_is_named(attack, digits):
    model, x, y = digits.model(), digits.images, digits.labels
    refused(attack, model, list(x), y, "expected inputs as a tensor (N, ...)")
    refused(attack, model, x, None, "expected labels as a tensor of the framework of the inputs")


def test_epsilons_may_be_anything_to_go_through(attack, digits):
    model, x, y = digits.model(), digits.images[:3], digits.labels[:3]
    wanted = attack(model, x, y, epsilons=[0.5, 2.0])
    for epsilons in ((0.5, 2.0), iter([0.5, 2.0]), torch.tensor([0.5, 2.0])):
        _, clipped, success = attack(model, x, y, epsilons=epsilons)
        assert torch.equal(torch.stack(clipped), torch.stack(wanted[1]))
        assert torch.equal(success, wanted[2])
    single = attack(model, x, y, epsilons=torch.tensor(2.0))
    assert torch.equal(single[1], wanted[1][1])


@pytest.mark.parametrize("epsilons", [[], -1.0, [0.5, float("nan")], "large"])
def test_epsilons_that_are_no_distances_are_refused(attack, digits, epsilons):
    with pytest.raises(ValueError, match="epsilon"):
        attack(digits.model(), digits.images, digits.labels, epsilons=epsilons)


def test_an_attack_within_a_distance_is_told_how_to_find_the_smallest(digits):
    for attack in (
        SmoothL2ProjectedGradientDescentAttack(steps=1),
        Quantized(foolbox.attacks.L2FastGradientAttack()),
        Quantized(foolbox.attacks.L2FastGradientAttack().repeat(2)),
    ):
        refused(attack, digits.model(), digits.images, digits.labels, "MinimalEpsilon(attack)")


def test_inputs_that_require_a_gradient_are_attacked_like_others(attack, digits):
    model, y = digits.model(), digits.labels[:3]
    x = digits.images[:3].clone().requires_grad_()
    _, found, _ = attack(model, x, y, epsilons=None)
    _, wanted, _ = attack(model, x.detach(), y, epsilons=None)
    assert torch.equal(found, wanted)
    assert not found.requires_grad
    assert x.requires_grad
    assert x.grad is None


def test_labels_on_another_device_are_refused(attack, digits):
    elsewhere = digits.labels.to("meta")
    refused(attack, digits.model(), digits.images, elsewhere, "labels on the device of the inputs")


def test_a_normalisation_in_double_precision_is_explained(attack):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10)).eval()
    preprocessing = {"mean": np.array([0.4, 0.5, 0.6]), "std": np.full(3, 0.2), "axis": -3}
    model = foolbox.PyTorchModel(network, bounds=(0, 1), preprocessing=preprocessing, device="cpu")
    images, labels = torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)
    words = "a mean of torch.float64 for inputs of torch.float32: pass mean.astype(numpy.float32)"
    refused(attack, model, images, labels, words)


def test_an_assertion_of_the_network_is_left_alone(attack, digits):
    class Asserting(torch.nn.Module):
        def forward(self, x):
            raise AssertionError("of its own")

    model = foolbox.PyTorchModel(Asserting().eval(), bounds=(0, 1), device="cpu")
    with pytest.raises(AssertionError, match="of its own"):
        attack(model, digits.images, digits.labels, epsilons=None)
