"""Every attack in every framework: against a closed form, and against PyTorch."""

from __future__ import annotations

import importlib.util
from functools import cache

import eagerpy as ep
import numpy as np
import pytest

from foolart.plugins.smoothing import GuidedSmoothing

from .attacks import ATTACKS, RADIUS, epsilon
from .backends import FRAMEWORKS, case, distances, normal, pixels

# They round an adversarial of DDN's once, without looking whether it remains one; the distortion is
# smallest where it remains none, if that was as close to the boundary as it should be.
BLIND = ("quantised DDN, rounding", "quantised DDN, distortion", "quantised DDN, gradient")


@cache
def run(framework, kind, name):
    """The results as arrays: images, success and L2 distances."""
    it = case(framework, kind)
    raw, clipped, success = ATTACKS[name](it.model, it.images, it.labels, epsilons=epsilon(name))
    assert type(raw) is type(clipped) is type(it.images)
    images = ep.astensor(clipped).numpy()
    return images, ep.astensor(success).numpy(), lengths(images - pixels())


def lengths(r):
    return np.linalg.norm(r.reshape(len(r), -1), axis=1)


def detour(direction):
    """How much farther the boundary of the linear network is along a direction than straight."""
    cosine = (direction * normal()).sum(axis=(1, 2, 3)) / lengths(direction)
    return np.linalg.norm(normal()) / cosine


def check_linear(name, success, found):
    """Success and distances of an attack on the linear network, where they are known."""
    x = pixels()
    straight = distances(x)
    g = np.broadcast_to(normal(), x.shape)
    if name in BLIND:
        assert success.any() or name == "quantised DDN, distortion"
        assert (found[~success] == 0).all()
        straight, found = straight[success], found[success]
    else:
        assert success.all()

    if name == "smooth BP":  # it goes along S S^T g, and no farther than it has to
        s = GuidedSmoothing(x, 0.9, "laplacian", 0.03)
        np.testing.assert_allclose(found, straight * detour(s(s.adjoint(g))), rtol=0.02)
    elif name == "sC&W":
        # Any perturbation is some S z, so that the limit of many steps is the straight distance.
        # Adam's first direction, from which it comes, is the sign of the gradient in z.
        s = GuidedSmoothing(x, 0.9, "laplacian", 0.1)
        assert (found >= straight).all()
        assert (found <= straight * detour(s(np.sign(s.adjoint(g))))).all()
    elif name == "qPGD2":  # it uses its budget, but for what the bounds clip
        np.testing.assert_allclose(found, RADIUS, rtol=1e-3)
    elif name == "integer, L_inf":  # so many whole levels along the sign
        levels = np.ceil(255 * straight * np.linalg.norm(normal()) / np.abs(normal()).sum())
        np.testing.assert_allclose(found, levels * np.sqrt(normal().size) / 255, rtol=1e-5)
    else:
        assert (found >= straight * (1 - 1e-4)).all()
        assert (found <= straight * (1.1 if name in BLIND else 1.05)).all()


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ATTACKS)
def test_the_linear_network_is_fooled_as_the_closed_form_says(framework, name):
    images, success, found = run(framework, "linear", name)
    check_linear(name, success, found)
    if framework != "pytorch" and importlib.util.find_spec("torch"):
        expected, expected_success, _ = run("pytorch", "linear", name)
        np.testing.assert_array_equal(success, expected_success)
        np.testing.assert_allclose(images, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS[1:])
@pytest.mark.parametrize("name", ATTACKS)
def test_the_distances_are_those_of_pytorch(framework, name):
    pytest.importorskip("torch")
    _, expected_success, expected = run("pytorch", "smooth", name)
    _, success, found = run(framework, "smooth", name)
    assert expected_success.any()
    np.testing.assert_array_equal(success, expected_success)
    np.testing.assert_allclose(found, expected, rtol=1e-2)
