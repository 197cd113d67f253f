"""BlurNet's evaluations, on a network whose behaviour is known."""

from __future__ import annotations

import foolbox
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from foolart.adapters.foolbox import QuantizedDDNAttack  # noqa: E402
from foolart.evaluation.blurnet_tables import (  # noqa: E402
    filtered,
    judge,
    regulariser,
    sticker_for,
    transfer,
    unmasked,
    white_box,
)
from foolart.plugins.blurnet import total_variation  # noqa: E402


class Means(torch.nn.Module):
    """Logits are ten times the channel means of an identity convolution."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[..., None, None])

    def forward(self, x):
        return 10 * self.conv(x).mean((2, 3))


def photographs(count=4):
    x = torch.full((count, 3, 8, 8), 0.2)
    x[:, 0] = 0.6
    return x


def test_verdicts_count_both_successes():
    x, attacked = photographs(), photographs()
    attacked[0, 1] = 0.8
    attacked[1, 2] = 0.8
    verdict = judge(Means(), x, attacked, label=0, target=1)
    assert verdict.accuracy.value == 1
    assert (verdict.changed.value, verdict.reached.value) == (0.5, 0.25)
    assert verdict.kept.value == 0.5
    wrong = judge(Means(), x, attacked, label=2, target=1)
    assert (wrong.changed.value, wrong.kept.value) == (0.5, 0.25)
    assert judge(Means(), x, attacked, label=0).reached.value == 0.5
    assert verdict.changed.low < 0.5 < verdict.changed.high
    clean, stuck = (np.rint(255 * z[0].numpy()) / 255 for z in (x, attacked))
    length = np.linalg.norm(clean - stuck)
    expected = length / np.linalg.norm(stuck) / 2
    assert verdict.dissimilarity == pytest.approx(expected, rel=1e-5)
    assert judge(Means(), x[:1], attacked[:1], label=0).distance == pytest.approx(length)
    assert verdict.confidence == pytest.approx(Means()(x).softmax(1)[0, 0].item(), abs=1e-2)


def test_transferred_and_white_box_stickers():
    networks = filtered(Means(), ["conv"], sizes=(3,))
    assert list(networks) == ["baseline", "input 3x3", "conv 3x3"]
    assert not any(module.training for net in networks.values() for module in net.modules())
    x, options = photographs(), {"steps": 30, "batch_size": 2}
    sticker = sticker_for(Means().eval(), x, None, label=0, target=1, **options)
    found = transfer(networks, x, sticker, label=0, target=1)
    assert list(found) == list(networks)
    assert found["baseline"].reached.value == 1.0
    # One linear layer without bias: blurring its input or its output is the same.
    assert found["input 3x3"].confidence == pytest.approx(found["conv 3x3"].confidence, rel=1e-5)
    assert white_box(Means().eval(), x, None, label=0, target=1, **options) == found["baseline"]


def test_a_sticker_without_a_target_takes_any_other_class():
    verdict = white_box(Means().eval(), photographs(), None, label=0, steps=30)
    assert verdict.reached == verdict.changed
    assert (verdict.changed.value, verdict.kept.value) == (1.0, 0.0)


def test_unmasked_attacks_are_judged_too():
    x, network = photographs(), Means().eval()
    x[:, 2] = 0  # else the way to two classes is equally short
    verdict = unmasked(network, x, QuantizedDDNAttack(steps=50), label=0)
    assert verdict.reached.value == 1
    # To the boundary between two channel means .4 apart: .2 in each of 64 pixels of both.
    assert verdict.distance == pytest.approx(0.2 * 128**0.5, rel=0.02)
    attack = foolbox.attacks.LinfPGD(steps=40)
    assert unmasked(network, x, attack, label=0, epsilon=0.1).changed.value == 0
    assert unmasked(network, x, attack, label=0, epsilon=0.3).changed.value == 1


def test_a_defenders_penalty_is_a_loss_of_images():
    x = photographs()
    x[0, :, ::2] += 0.1
    extra = regulariser(Means(), "conv", "tv", 0.5)
    assert torch.allclose(extra(x), 0.5 * total_variation(x))
    assert extra(x)[0] > extra(x)[1]
    with pytest.raises(ValueError, match="penalty on feature maps"):
        regulariser(Means(), "conv", "linf", 0.5)
