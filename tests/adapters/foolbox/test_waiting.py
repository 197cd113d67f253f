"""No attack asks the device for a number in a step: it would wait for all that is queued there."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import foolart.adapters.foolbox

# Parameters, so that the number of steps alone decides how many gradients there are.
STEPS = {
    "BoundaryProjectionAttack": {},
    "SmoothBoundaryProjectionAttack": {},
    "QuantizedDDNAttack": {},
    "SmoothL2ProjectedGradientDescentAttack": {},
    "SmoothCarliniWagnerAttack": {"binary_search_steps": 2},  # its early abort waits, and is off
    "IntegerMinimumNormAttack": {"candidates": 1},
    "LinfIntegerMinimumNormAttack": {"candidates": 1},
}


class Waits(TorchDispatchMode):
    """Counts what item(), bool() and float() of a tensor come to."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", STEPS)
def test_no_step_waits(linear, name):
    made = getattr(foolart.adapters.foolbox, name)
    budget = 1.0 if "Projected" in name else None
    waits = []
    for steps in (5, 15):
        attack = made(steps=steps, **STEPS[name])
        with Waits() as seen:
            attack(linear.model(), linear.images, linear.labels, epsilons=budget)
        waits.append(seen.count)
    assert waits[0] > 0  # the checks at the door
    # After a run one or two more are asked for, depending on its success; ten steps are not.
    assert waits[1] - waits[0] < 5
