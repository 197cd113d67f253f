"""The compiled gradient step: compiled once a run, and the same as without compilation."""

from __future__ import annotations

import eagerpy as ep
import foolbox
import numpy as np
import pytest

from foolart.adapters.foolbox import BoundaryProjectionAttack, IntegerMinimumNormAttack
from foolart.plugins.gradients import value_and_gradient

jax = pytest.importorskip("jax")
jnp = jax.numpy

rng = np.random.default_rng(0)
WEIGHT = jnp.asarray(rng.normal(size=(48, 10)), jnp.float32)
IMAGES = jnp.asarray(rng.integers(96, 160, (4, 3, 4, 4)) / 255, jnp.float32)


class Network:
    """A linear network that counts how often Python runs it."""

    def __init__(self, weight=WEIGHT):
        self.weight = weight
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x.reshape((len(x), -1)) @ self.weight


def attacked(network, attack):
    model = foolbox.JAXModel(network, bounds=(0, 1))
    labels = model(IMAGES).argmax(axis=-1)
    network.calls = 0
    images, _, success = attack(model, IMAGES, labels, epsilons=None)
    assert success.all()
    return np.asarray(images)


@pytest.mark.parametrize("attack", [BoundaryProjectionAttack, IntegerMinimumNormAttack])
def test_python_runs_the_network_as_often_however_many_steps(attack):
    few, many = Network(), Network()
    attacked(few, attack(steps=8, **candidates(attack)))
    attacked(many, attack(steps=30, **candidates(attack)))
    assert few.calls == many.calls < 8


def candidates(attack):
    # Their number grows with the steps, but not that of the compilations.
    return {} if attack is BoundaryProjectionAttack else {"forwards": 2}


def test_every_run_sees_the_weights_of_its_time():
    network = Network()
    before = attacked(network, BoundaryProjectionAttack(steps=5))
    network.weight = -WEIGHT[:, ::-1]
    after = attacked(network, BoundaryProjectionAttack(steps=5))
    np.testing.assert_array_equal(
        after, attacked(Network(network.weight), BoundaryProjectionAttack(steps=5))
    )
    assert (before != after).any()


def test_a_network_that_asks_for_values_runs_step_by_step():
    class Curious(Network):
        def __call__(self, x):
            logits = super().__call__(x)
            return logits if logits.sum() < jnp.inf else -logits

    network = Curious()
    result = attacked(network, BoundaryProjectionAttack(steps=6))
    assert network.calls > 6
    np.testing.assert_allclose(
        result, attacked(Network(), BoundaryProjectionAttack(steps=6)), atol=1e-6
    )


def test_a_network_that_computes_in_numpy_runs_step_by_step():
    @jax.custom_vjp
    def doubled(x):
        return jnp.asarray(2 * np.asarray(x))

    doubled.defvjp(lambda x: (doubled(x), None), lambda _, g: (2 * g,))

    def score(x):
        return ((doubled(x.raw) ** 2).sum(axis=1),)

    x = ep.astensor(jnp.asarray([[1.0, 2.0], [3.0, 4.0]]))
    for _ in range(2):
        (value,), gradient = value_and_gradient(lambda x: tuple(map(ep.astensor, score(x))), x)
        np.testing.assert_allclose(value.numpy(), [20, 100])
        np.testing.assert_allclose(gradient.numpy(), 8 * x.numpy())


def test_errors_of_the_network_come_through():
    def broken(x):
        raise RuntimeError("no such layer")

    model = foolbox.JAXModel(broken, bounds=(0, 1))
    with pytest.raises(RuntimeError, match="no such layer"):
        BoundaryProjectionAttack()(model, IMAGES, jnp.zeros(4, jnp.int32), epsilons=None)


def test_operands_are_no_constants():
    def score(x, factor):
        return ((x * factor).sum(axis=1), factor)

    x = ep.astensor(jnp.ones((2, 3)))
    for factor in (2.0, 5.0):
        operand = ep.astensor(jnp.full((2, 3), factor))
        (value, returned), gradient = value_and_gradient(score, x, operand)
        np.testing.assert_allclose(value.numpy(), 3 * factor)
        np.testing.assert_allclose(gradient.numpy(), np.full((2, 3), factor))
        np.testing.assert_allclose(returned.numpy(), operand.numpy())
