from __future__ import annotations

import foolbox
import numpy as np
import pytest
import torch
from art.attacks import evasion
from foolbox.criteria import TargetedMisclassification

from foolart.adapters.art import art_attack
from foolart.adapters.foolbox.minimal_epsilon import MinimalEpsilon


@pytest.fixture
def model(trained):
    return foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")


@pytest.fixture
def tensors(batch):
    return tuple(map(torch.from_numpy, batch))


@pytest.mark.parametrize(
    ("name", "params", "own"),
    [
        ("ProjectedGradientDescent", {"norm": 2, "max_iter": 5}, {"eps": 0.9, "eps_step": 0.3}),
        ("BasicIterativeMethod", {"max_iter": 5}, {"eps": 0.9, "eps_step": 0.3}),
        ("FastGradientMethod", {}, {"eps": 0.9, "eps_step": 0.3}),
        ("CarliniL2Method", {"max_iter": 2, "binary_search_steps": 1}, {}),
        ("DeepFool", {"max_iter": 10}, {}),
    ],
)
def test_gives_the_images_of_the_art_attack(classify, model, tensors, batch, name, params, own):
    attack = getattr(evasion, name)
    reference = attack(classify(), **params, **own, batch_size=8).generate(*batch)
    raw, _, success = art_attack(name, **params)(model, *tensors, epsilons=own.get("eps"))
    np.testing.assert_allclose(raw, reference, atol=1e-6)
    fooled = classify().predict(reference).argmax(axis=1) != batch[1]
    np.testing.assert_array_equal(success, fooled)


def test_distances():
    assert art_attack(evasion.CarliniL2Method).distance.p == 2
    assert art_attack("BasicIterativeMethod").distance.p == np.inf
    assert art_attack("FastGradientMethod").distance.p == np.inf
    assert art_attack("ProjectedGradientDescent", norm="inf").distance.p == np.inf
    assert art_attack("ProjectedGradientDescent", norm=1).distance.p == 1
    l1 = foolbox.distances.l1
    assert art_attack("ElasticNet", distance=l1).distance is l1
    with pytest.raises(ValueError, match="expected a distance for ElasticNet"):
        art_attack("ElasticNet")


def test_targeted(model, tensors):
    x, y = tensors
    criterion = TargetedMisclassification((y + 1) % 10)
    attack = art_attack("ProjectedGradientDescent", norm=2, max_iter=20)
    _, clipped, success = attack(model, x, criterion, epsilons=3.0)
    assert torch.equal(model(clipped).argmax(dim=1) == (y + 1) % 10, success)
    assert success.all()
    with pytest.raises(ValueError, match="untargeted criterion for DeepFool"):
        art_attack("DeepFool")(model, x, criterion, epsilons=None)


def test_works_with_what_wraps_foolbox_attacks(model, tensors):
    x, y = tensors
    attack = art_attack("BasicIterativeMethod", max_iter=5)
    distances = attack.distance(
        x, MinimalEpsilon(attack, epsilons=7)(model, x, y, epsilons=None)[0]
    )
    assert distances.max() <= 1
    several = attack.repeat(2)(model, x, y, epsilons=[0.0, 0.1, 0.9])
    assert several[2].shape == (3, 8)
    assert several[2][2].all()
    assert not several[2][0].any()


def test_counts_all_queries_and_keeps_the_inputs(trained, tensors):
    x, y = tensors
    calls = []

    class Counting(foolbox.PyTorchModel):
        def __call__(self, inputs):
            calls.append(len(inputs))
            return super().__call__(inputs)

    before = x.clone()
    attack = art_attack("ProjectedGradientDescent", max_iter=5)
    attack(Counting(trained, (0, 1), device="cpu"), x, y, epsilons=0.1)
    assert calls.count(8) >= 5
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("attack", "params", "message"),
    [
        ("NoAttack", {}, "expected attack to be a class of ART attacks.*got 'NoAttack'"),
        (foolbox.attacks.DDNAttack, {}, "expected attack to be a class of ART attacks"),
        ("DeepFool", {"steps": 3}, r"parameters of DeepFool \(max_iter, .*\), got steps"),
        ("DeepFool", {"targeted": True}, "got targeted"),
        ("FastGradientMethod", {"eps": 0.3}, "got eps"),
    ],
)
def test_bad_arguments(attack, params, message):
    with pytest.raises(ValueError, match=message):
        art_attack(attack, **params)


def test_refuses_other_frameworks(batch):
    jnp = pytest.importorskip("jax.numpy")
    model = foolbox.JAXModel(lambda x: x.reshape((len(x), -1))[:, :10], bounds=(0, 1))
    with pytest.raises(ValueError, match="PyTorch tensors, got JAXTensor"):
        art_attack("DeepFool")(model, *map(jnp.asarray, batch), epsilons=None)
