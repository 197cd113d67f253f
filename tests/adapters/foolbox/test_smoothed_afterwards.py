from __future__ import annotations

from typing import Any

import foolbox
import pytest

from foolart.adapters.foolbox import SmoothedAfterwards
from foolart.plugins.smoothing import GuidedSmoothing
from tests.networks import Digits

torch = pytest.importorskip("torch")

DDN = foolbox.attacks.DDNAttack(steps=20)


def lengths(x: Any, y: Any) -> Any:
    return (y - x).flatten(1).norm(dim=1)


def test_smooths_what_the_attack_found(digits: Digits) -> None:
    model, x, labels = digits.model(), digits.images, digits.labels
    found = DDN(model, x, labels, epsilons=None)[0]
    smooth = (x + 3 * GuidedSmoothing(x, 0.9)(found - x)).clip(0, 1)
    fools = model(smooth).argmax(dim=1) != labels
    assert fools.any()
    raw, _, success = SmoothedAfterwards(DDN, alpha=0.9, factors=[3.0])(
        model, x, labels, epsilons=None
    )
    assert torch.equal(success, fools)
    torch.testing.assert_close(raw[fools], smooth[fools], rtol=0, atol=1e-6)
    assert torch.equal(raw[~fools], x[~fools])


def test_larger_factors_make_good_at_a_price(digits: Digits) -> None:
    model, x, labels = digits.model(), digits.images, digits.labels
    plain = SmoothedAfterwards(DDN, alpha=0.9)
    searched = SmoothedAfterwards(DDN, alpha=0.9, factors=[2.0 ** (i / 2) for i in range(-4, 10)])
    _, _, few = plain(model, x, labels, epsilons=None)
    raw, _, many = searched(model, x, labels, epsilons=None)
    assert few.sum() < many.sum()
    found = DDN(model, x, labels, epsilons=None)[0]
    assert lengths(x, raw)[many].mean() > 1.2 * lengths(x, found)[many].mean()


def test_misclassified_inputs_come_back_untouched(digits: Digits) -> None:
    labels = (digits.labels + 1) % 10
    raw, _, success = SmoothedAfterwards(DDN)(digits.model(), digits.images, labels, epsilons=None)
    assert success.all()
    assert torch.equal(raw, digits.images)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"attack": 3}, "attack to be a Foolbox attack"),
        ({"factors": []}, "factors to be positive"),
        ({"factors": [1.0, 0.0]}, "factors to be positive"),
        ({"alpha": 1.0}, "alpha in"),
        ({"kernel": "box"}, "kernel to be one of"),
        ({"bandwidth": 0.0}, "bandwidth to be positive"),
        ({"channel_axis": 2}, "channel_axis to be None"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothedAfterwards(**{"attack": DDN, **parameters})


def test_labels_may_be_integers_of_any_size(digits: Digits) -> None:
    model, x, labels = digits.model(), digits.images[:4], digits.labels[:4]
    attack = SmoothedAfterwards(foolbox.attacks.DDNAttack(steps=5), factors=[4.0])
    wanted, _, _ = attack(model, x, labels, epsilons=None)
    found, _, _ = attack(model, x, labels.int(), epsilons=None)
    assert torch.equal(found, wanted)
