from __future__ import annotations

import foolbox
import numpy as np
import pytest
import torch
from art.attacks import evasion

from foolart.adapters import ArtModel
from foolart.adapters.art import LagrangianQuantization
from foolart.adapters.foolbox.quantized import Quantized
from tests.adapters.art import defences

PGD = {"norm": 2, "eps": 2.0, "eps_step": 0.2, "max_iter": 20, "verbose": False}


def fooled(classifier, images, labels):
    predicted = ArtModel(classifier)(torch.from_numpy(images)).argmax(dim=1).numpy()
    return predicted != labels


def off_grid(images):
    return np.abs(images * 255 - np.rint(images * 255)).max()


@pytest.mark.parametrize(
    "build",
    [
        lambda c: evasion.ProjectedGradientDescent(c, **PGD),
        lambda c: evasion.DeepFool(c, verbose=False, batch_size=8),
        lambda c: foolbox.attacks.DDNAttack(steps=20),
        lambda c: foolbox.attacks.DDNAttack(steps=10).repeat(2),
    ],
    ids=["PGD", "DeepFool", "DDN", "repeated DDN"],
)
def test_gives_digital_images_that_fool(classify, batch, build):
    classifier = classify(defences.StraightThrough())
    attack = LagrangianQuantization(classifier, build(classifier), verbose=False)
    result = attack.generate(*batch)
    assert fooled(classifier, result, batch[1]).all()
    assert off_grid(result) < 1e-4


def test_distorts_less_than_the_attack_and_rounds_better(classify, batch):
    classifier = classify()
    inner = evasion.DeepFool(classifier, verbose=False, batch_size=8)
    images = inner.generate(batch[0])
    result = LagrangianQuantization(classifier, inner, verbose=False).generate(*batch)
    rounded = np.rint(images * 255).astype(np.float32) / np.float32(255)
    assert fooled(classifier, result, batch[1]).all()
    assert not fooled(classifier, rounded, batch[1]).all()
    assert np.linalg.norm(result - batch[0]) < 1.05 * np.linalg.norm(images - batch[0])


def test_gives_the_images_of_the_foolbox_wrapper(classify, batch):
    inner = foolbox.attacks.L2BasicIterativeAttack(steps=5)
    attack = LagrangianQuantization(classify(), inner, eps=1.5, method="gradient", verbose=False)
    x, y = map(torch.from_numpy, batch)
    reference = Quantized(inner, method="gradient")(ArtModel(classify()), x, y, epsilons=1.5)[1]
    np.testing.assert_array_equal(attack.generate(*batch), reference.numpy())


def test_targeted_and_masked(classify, batch):
    classifier, target = classify(), (batch[1] + 1) % 10
    inner = evasion.ProjectedGradientDescent(classifier, **{**PGD, "eps": 6.0}, targeted=True)
    attack = LagrangianQuantization(classifier, inner, targeted=True, verbose=False)
    mask = np.zeros((8, 8))
    mask[1:7] = 1
    result = attack.generate(batch[0], target, mask=mask)
    np.testing.assert_array_equal(result[..., mask == 0], batch[0][..., mask == 0])
    assert (~fooled(classifier, result, target)).mean() > 0.6
    assert off_grid(result) < 1e-4


def test_check_params(classify):
    classifier = classify()
    inner = evasion.ProjectedGradientDescent(classifier, **PGD)
    with pytest.raises(ValueError, match="one on the same classifier"):
        LagrangianQuantization(classify(), inner)
    with pytest.raises(ValueError, match="an attack with targeted=True, got False"):
        LagrangianQuantization(classifier, inner, targeted=True)
    with pytest.raises(ValueError, match="expected attack to be a Foolbox attack"):
        LagrangianQuantization(classifier, "PGD")
    with pytest.raises(ValueError, match="expected eps for L2Projected"):
        LagrangianQuantization(classifier, foolbox.attacks.L2PGD())
    with pytest.raises(ValueError, match="expected method to be one of"):
        LagrangianQuantization(classifier, inner, method="floor")
    with pytest.raises(ValueError, match="expected levels to be of type int"):
        LagrangianQuantization(classifier, inner, levels="8 bit")
