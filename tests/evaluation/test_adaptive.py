from __future__ import annotations

import foolbox
import pytest
import torch
from torch import nn

from foolart.evaluation.adaptive import View, attacked, gradient_missing, judged, threats
from foolart.plugins.filters import BilateralFilter, BitDepthReduction, GaussianNoise
from foolart.plugins.guard import guard
from foolart.plugins.randomised import RandomChoice


class Linear(nn.Module):
    """Two classes, told apart by the sum of the pixels."""

    def forward(self, x):
        score = x.flatten(1).sum(1) - 0.5 * x[0].numel()
        return torch.stack([score, -score], 1)


def defended(defence):
    module = nn.Sequential(defence, Linear()).eval()
    return foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu"), module


@pytest.fixture
def x():
    return torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def gradient(model, x):
    x = x.clone().requires_grad_()
    model(x)[:, 0].sum().backward()
    return x.grad


def test_the_threat_models_follow_from_the_defence():
    assert threats(None) == ("white-box",)
    assert threats(nn.ReLU()) == ("white-box",)
    assert threats(BilateralFilter()) == ("true-gradient", "bpda")
    assert threats(BitDepthReduction()) == ("true-gradient", "bpda", "bpda-smooth")
    assert threats(GaussianNoise()) == ("true-gradient", "bpda", "bpda-eot")
    assert threats(nn.Sequential(BitDepthReduction(), GaussianNoise()))[-2:] == (
        "bpda-smooth",
        "bpda-eot",
    )
    assert threats(BitDepthReduction(), gradients=False) == threats(None, False) == ("decision",)


@pytest.mark.parametrize("shipped", ["straight-through", "true", "surrogate"])
def test_a_threat_model_changes_the_gradient_and_nothing_else(x, shipped):
    model, module = defended(BitDepthReduction(2, gradient=shipped))
    found = {}
    for threat in ("true-gradient", "bpda", "bpda-smooth"):
        view = attacked(model, module, threat)
        assert torch.equal(view(x), model(x))
        found[threat] = gradient(view, x)
        assert module[0].gradient == shipped
    assert (found["true-gradient"] == 0).all()
    assert (found["bpda"] == 1).all()
    # The staircase k - sin(2 pi k) / (2 pi) on three steps, as BitDepthReduction documents it.
    expected = 1 - torch.cos(2 * torch.pi * 3 * x)
    assert torch.allclose(found["bpda-smooth"], expected, atol=1e-4)
    assert torch.equal(gradient(attacked(model, module, "white-box"), x), gradient(model, x))


def test_feature_layers_are_reached_too(x):
    network = nn.Sequential(nn.Identity(), Linear())
    guarded = guard(network, {"0": BitDepthReduction(2)}).eval()
    model = foolbox.PyTorchModel(guarded, bounds=(0, 1), device="cpu")
    assert (gradient(attacked(model, guarded, "true-gradient"), x) == 0).all()
    assert (gradient(attacked(model, guarded, "bpda"), x) == 1).all()


def test_what_a_defence_does_not_offer_stays(x):
    both = nn.Sequential(BitDepthReduction(2), GaussianNoise(0.0))
    model, module = defended(both)
    attacked(model, module, "bpda-smooth")(x)
    view = View(model, module, gradient="surrogate")
    with view._backward():
        assert both[0].gradient == "surrogate"
        assert both[1].gradient == "straight-through"


def test_eot_averages_over_fresh_draws(x):
    model, module = defended(GaussianNoise(0.1, seed=3))
    view = attacked(model, module, "bpda-eot", draws=50)
    assert view.draws == 50
    first, second = view(x), view(x)
    assert not torch.equal(first, second)
    assert torch.allclose(first.exp().sum(1), torch.ones(4), atol=1e-5)
    # By hand, over the same draws.
    for module_ in module.modules():
        if hasattr(module_, "reset"):
            module_.reset()
    expected = torch.stack([torch.softmax(model(x), 1) for _ in range(50)]).mean(0).log()
    assert torch.allclose(first, expected, atol=1e-5)
    spread = [gradient(attacked(model, module, "bpda-eot", draws=n), x).std() for n in (1, 200)]
    assert spread[1] < spread[0] or spread[0] == 0


def test_an_attack_begins_with_the_same_draws(x):
    model, module = defended(GaussianNoise(0.1))
    once = attacked(model, module, "bpda")(x)
    model(x)
    assert torch.equal(attacked(model, module, "bpda")(x), once)


def test_the_judge_is_deterministic_and_leaves_the_attack_its_draws(x):
    model, module = defended(GaussianNoise(0.1))
    judge = judged(model, module)
    view = attacked(model, module, "bpda")
    first = view(x)
    verdicts = judge(x), judge(x)
    assert torch.equal(*verdicts)
    second = view(x)
    view = attacked(model, module, "bpda")
    assert torch.equal(view(x), first)
    assert torch.equal(view(x), second)


def test_a_verdict_depends_on_the_image_alone(x):
    model, module = defended(GaussianNoise(0.1))
    judge = judged(model, module)
    together = judge(x)
    assert torch.equal(judge(x[[2, 0]]), together[[2, 0]])
    twins = judge(torch.cat([x[:1], x[:1]]))
    assert torch.equal(twins[0], twins[1])
    other = judge((x + 1 / 255).clamp(0, 1))
    assert not torch.equal(other, together)


def test_the_decision_based_attacker_gets_equal_answers_to_equal_questions(x):
    model, module = defended(GaussianNoise(0.5))
    view = attacked(model, module, "decision")
    first = view(x)
    assert torch.equal(view(x[[2, 0]]), first[[2, 0]])
    assert view.draws == 1
    # ... from draws that are not the judge's.
    assert not torch.equal(first, judged(model, module, draws=1)(x))
    labels = first.argmax(1)
    attack = foolbox.attacks.BoundaryAttack(steps=5)
    found = attack(view, x, labels, epsilons=None)[1]
    assert (view(found).argmax(1) != labels).all()
    with pytest.raises((ValueError, AssertionError)):
        attack(attacked(model, module, "white-box"), x, labels, epsilons=None)


def test_a_deterministic_defence_is_judged_as_it_is():
    model, module = defended(BitDepthReduction())
    assert judged(model, module) is model
    assert judged(model, None) is model
    model, module = defended(RandomChoice([BitDepthReduction(1), BitDepthReduction(8)]))
    assert judged(model, module) is not model


def test_missing_gradients_are_found(x):
    labels = torch.zeros(4, dtype=torch.int64)
    model, module = defended(BitDepthReduction())
    assert gradient_missing(attacked(model, module, "true-gradient"), x, labels).all()
    assert not gradient_missing(attacked(model, module, "bpda"), x, labels).any()

    class Detached(Linear):
        def forward(self, x):
            return super().forward(x.detach())

    broken = foolbox.PyTorchModel(Detached().eval(), bounds=(0, 1), device="cpu")
    assert gradient_missing(broken, x, labels).all()

    class Partly(Linear):
        def forward(self, x):
            seen = (x.detach()[:, :1, :1, :1] > 0.5).float()
            return super().forward(seen * x)

    x[:, 0, 0, 0] = torch.tensor([0.9, 0.1, 0.9, 0.1])
    partly = foolbox.PyTorchModel(Partly().eval(), bounds=(0, 1), device="cpu")
    assert gradient_missing(partly, x, labels).tolist() == [False, True, False, True]


def test_a_foolbox_attack_runs_through_every_view(x):
    model, module = defended(nn.Sequential(BitDepthReduction(4), GaussianNoise(0.01)))
    x = 0.55 + 0.4 * x  # far enough from the boundary for noise not to cross it
    labels = judged(model, module)(x).argmax(1)
    # With room to spare: a minimal adversarial of one draw is a coin toss to the judge.
    attack = foolbox.attacks.L2ProjectedGradientDescentAttack(
        steps=10, rel_stepsize=0.3, random_start=False
    )
    fooled = {}
    for threat in ("true-gradient", "bpda", "bpda-smooth", "bpda-eot"):
        view = attacked(model, module, threat)
        images = attack(view, x, labels, epsilons=2.0)[1]
        fooled[threat] = int((judged(model, module)(images).argmax(1) != labels).sum())
    assert fooled["true-gradient"] == 0
    assert fooled["bpda"] == fooled["bpda-smooth"] == fooled["bpda-eot"] == 4


def test_an_unknown_threat_is_refused():
    with pytest.raises(ValueError, match="expected threat to be one of white-box, true-gradient"):
        attacked(None, None, "transfer")
