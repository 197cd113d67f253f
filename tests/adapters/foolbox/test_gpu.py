"""On a CUDA device: where tensors live, half precision, agreement with the CPU, and its waiting.

``test_waiting.py`` counts the same on the CPU.
"""

from __future__ import annotations

import copy

import foolbox
import pytest
import torch

import foolart.adapters.foolbox
from tests.conformance.attacks import ATTACKS, epsilon

from .test_waiting import STEPS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device"),
]

DEVICE = torch.device("cuda")


@pytest.fixture
def there(digits):
    """The trained network on the device, as a Foolbox model, with images and labels."""
    net = copy.deepcopy(digits.net).to(DEVICE)
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device=DEVICE)
    return model, digits.images.to(DEVICE), digits.labels.to(DEVICE)


def distances(a, b):
    return (a - b).flatten(1).norm(dim=1)


@pytest.mark.parametrize("name", ATTACKS)
def test_results_stay_on_the_device_and_are_those_of_the_cpu(there, digits, name):
    budget = epsilon(name)
    model, x, y = there
    with torch.backends.cudnn.flags(allow_tf32=False):
        images, clipped, success = ATTACKS[name](model, x, y, epsilons=budget)
    assert images.device.type == clipped.device.type == success.device.type == DEVICE.type
    expected, _, succeeded = ATTACKS[name](
        digits.model(), digits.images, digits.labels, epsilons=budget
    )
    # Sums are taken in another order, and an image at a tie of two steps may go another way.
    assert (success.cpu() == succeeded).sum() >= len(x) - 1
    both = success.cpu() & succeeded
    ratio = distances(images.cpu(), digits.images)[both] / distances(expected, digits.images)[both]
    assert ((ratio - 1).abs() < 0.01).sum() >= both.sum() - 1


@pytest.mark.parametrize("name", ATTACKS)
def test_a_network_under_autocast(there, name):
    model, x, y = there
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        images, _, success = ATTACKS[name](model, x, y, epsilons=epsilon(name))
    assert images.dtype == x.dtype
    assert images.isfinite().all()
    assert success.any() or name == "quantised DDN, distortion"


class Widened(torch.nn.Module):
    """A network of half-precision inputs in 0..255 that computes in float32."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.float() / 255)


# Foolbox's DDN depends on the scale of the bounds; its clipping to an epsilon squares lengths in
# the dtype of the inputs, where 255 is the end.
@pytest.mark.parametrize("name", [name for name in ATTACKS if not name.startswith("quantised")])
def test_inputs_of_half_precision(there, name):
    model, x, y = there
    half = foolbox.PyTorchModel(Widened(model).eval(), bounds=(0, 255), device=DEVICE)
    x = (x * 255).round().half()
    budget = None if epsilon(name) is None else 250.0
    images, _, success = ATTACKS[name](half, x, y, epsilons=budget)
    assert images.dtype == torch.float16
    assert images.device == x.device
    assert success.any()
    if name not in ("sC&W", "qPGD2"):  # which know no levels
        assert (images == images.round()).all()


@pytest.mark.parametrize("name", STEPS)
def test_no_step_waits_for_the_device(there, name):
    model, x, y = there
    made = getattr(foolart.adapters.foolbox, name)
    budget = 1.0 if "Projected" in name else None
    waits = []
    for steps in (5, 5, 15):  # the first run warms up
        with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as seen:
            made(steps=steps, **STEPS[name])(model, x, y, epsilons=budget)
        # A scalar copied to the host is what item(), bool() and any() in an if come to.
        waits.append(
            sum(
                event.count
                for event in seen.key_averages()
                if event.key == "cudaStreamSynchronize" or event.key.startswith("Memcpy DtoH")
            )
        )
    assert waits[1] > 0  # the checks at the door
    # After a run one or two more are asked for, depending on its success; ten steps are not.
    assert waits[2] - waits[1] < 10
