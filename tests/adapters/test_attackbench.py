from __future__ import annotations

import copy

import foolbox
import pytest

torch = pytest.importorskip("torch")

from foolart.adapters.attackbench import for_attackbench  # noqa: E402
from foolart.adapters.foolbox import BoundaryProjectionAttack  # noqa: E402


class Bench(torch.nn.Module):
    """Counts, and goes blind when the budget is spent, as AttackBench's model does."""

    def __init__(self, net, limit):
        super().__init__()
        self.net, self.limit = net, limit
        self.forwards = self.backwards = 0
        net.register_full_backward_hook(self._backward)

    def _backward(self, *_):
        self.backwards += 1

    def forward(self, x):
        if self.forwards + self.backwards >= self.limit:
            return x.flatten(1)[:, :10] * 0
        self.forwards += 1
        return self.net(x)


@pytest.mark.parametrize("limit", [2000, 13])
@pytest.mark.parametrize(
    "attack",
    [
        BoundaryProjectionAttack(steps=10, levels=None),
        foolbox.attacks.L2BasicIterativeAttack(steps=2),
        foolbox.attacks.L2BasicIterativeAttack(steps=2).repeat(1),
    ],
    ids=["minimizes", "has a budget", "repeated"],
)
def test_it_runs_as_attackbench_runs_it(digits, attack, limit):
    bench = Bench(copy.deepcopy(digits.net), limit).eval()
    run = for_attackbench(attack)
    found = run(
        model=bench, inputs=digits.images, labels=digits.labels, targeted=False, targets=None
    )
    assert found.shape == digits.images.shape
    assert ((found >= 0) & (found <= 1)).all()
    fooled = digits.net(found).argmax(1) != digits.labels
    assert bench.forwards + bench.backwards <= limit + 1  # checked before a forward only
    if limit == 2000:
        assert fooled.all()


def test_targets_are_reached(digits):
    targets = (digits.labels + 1) % 10
    run = for_attackbench(BoundaryProjectionAttack(steps=20, levels=None))
    found = run(
        model=digits.net, inputs=digits.images, labels=digits.labels, targets=targets, targeted=True
    )
    assert (digits.net(found).argmax(1) == targets).float().mean() > 0.8
    with pytest.raises(ValueError, match="expected targets"):
        run(model=digits.net, inputs=digits.images, labels=digits.labels, targeted=True)


def test_anything_else_is_refused():
    with pytest.raises(ValueError, match="expected a Foolbox attack, got function"):
        for_attackbench(lambda x: x)
