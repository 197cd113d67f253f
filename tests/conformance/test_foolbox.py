"""The functions of Foolbox's ``test_attacks.py`` and ``test_attacks_base.py``, for our attacks.

They are rebuilt for networks that need no download; ``run_toolkits.py`` runs the originals.
"""

from __future__ import annotations

import eagerpy as ep
import foolbox
import pytest

from .attacks import ATTACKS, epsilon
from .backends import FRAMEWORKS, case

# The compilation of steps takes most of the time on JAX, and is none of this file's business.
frameworks = pytest.mark.parametrize(
    "framework", [FRAMEWORKS[0], *(pytest.param(f, marks=pytest.mark.slow) for f in FRAMEWORKS[1:])]
)


def tensors(framework):
    it = case(framework, "smooth")
    return it.model, ep.astensor(it.images), ep.astensor(it.labels)


@frameworks
@pytest.mark.parametrize("name", ATTACKS)
def test_untargeted_attacks(framework, name):
    model, x, y = tensors(framework)
    accuracy = foolbox.accuracy(model, x, y)
    assert accuracy > 0
    advs, _, _ = ATTACKS[name](model, x, y, epsilons=epsilon(name))
    assert foolbox.accuracy(model, advs, y) < accuracy


@frameworks
@pytest.mark.parametrize("name", ATTACKS)
def test_targeted_attacks(framework, name):
    model, x, y = tensors(framework)
    criterion = foolbox.TargetedMisclassification((y + 1) % model(x).shape[-1])
    before = criterion(x, model(x))
    assert not before.all()
    advs, _, _ = ATTACKS[name](model, x, criterion, epsilons=epsilon(name))
    assert criterion(advs, model(advs)).sum().item() > before.sum().item()


@frameworks
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("name", ATTACKS)
def test_call_one_epsilon(framework, name, repeats):
    model, x, y = tensors(framework)
    attack = ATTACKS[name] if repeats == 1 else ATTACKS[name].repeat(repeats)
    raw, clipped, success = attack(model, x, y, epsilons=1.0)
    assert ep.istensor(raw)
    assert ep.istensor(clipped)
    assert ep.istensor(success)
    assert raw.shape == x.shape
    assert clipped.shape == x.shape
    assert success.shape == (len(x),)


@frameworks
@pytest.mark.parametrize("name", ATTACKS)
def test_model_bounds(framework, name):
    model, x, y = tensors(framework)
    for outside in (x * 0 - 0.1, x * 0 + 1.1):
        # Foolbox's attacks raise AssertionError, ours say what is wrong.
        with pytest.raises(ValueError, match=r"within model.bounds \(0, 1\)"):
            ATTACKS[name](model, outside, y, epsilons=1.0)
