"""Gradients on JAX, compiled: step by step, JAX spends most of its time on dispatching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import eagerpy as ep
import jax

Raw = Any
Step = Callable[..., tuple[tuple[Raw, ...], Raw]]


def value_and_gradient(
    score: Callable[..., tuple[ep.Tensor, ...]], x: ep.Tensor, operands: tuple[ep.Tensor, ...]
) -> tuple[tuple[ep.Tensor, ...], ep.Tensor]:
    """:func:`foolart.plugins.gradients.value_and_gradient`, compiled once for each score.

    The compiled step belongs to the score function, which an attack makes anew in each run: no
    run sees another's labels, or weights that a model had before. A score that needs the values
    of its inputs (Python's ``if``, NumPy) cannot be compiled and runs step by step.
    """
    raws = tuple(operand.raw for operand in operands)
    step = vars(score).get("compiled")
    if step is None:
        step = vars(score)["compiled"] = jax.jit(_step(score))
    try:
        outputs, gradient = step(x.raw, *raws)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
        step = vars(score)["compiled"] = _step(score)
        outputs, gradient = step(x.raw, *raws)
    return tuple(ep.astensor(output) for output in outputs), ep.astensor(gradient)


def _step(score: Callable[..., tuple[ep.Tensor, ...]]) -> Step:
    def step(x: Raw, *operands: Raw) -> tuple[tuple[Raw, ...], Raw]:
        def loss(x: Raw) -> tuple[Raw, tuple[Raw, ...]]:
            outputs = score(ep.astensor(x), *(ep.astensor(operand) for operand in operands))
            return outputs[0].sum().raw, tuple(output.raw for output in outputs)

        (_, outputs), gradient = jax.value_and_grad(loss, has_aux=True)(x)
        return outputs, gradient

    return step
