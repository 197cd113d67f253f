"""Scores whose sign says whether an input is adversarial, and their gradients."""

from __future__ import annotations

from collections.abc import Callable

import eagerpy as ep

Score = Callable[..., tuple[ep.Tensor, ...]]


def atleast_kd(scalars: ep.Tensor, ndim: int) -> ep.Tensor:
    """Give per-sample scalars ``(N,)`` trailing axes, so that they broadcast over ``ndim`` axes."""
    return scalars.reshape((len(scalars),) + (1,) * (ndim - 1))


def inner(a: ep.Tensor, b: ep.Tensor) -> ep.Tensor:
    """Per-sample inner products: two tensors ``(N, ...)`` to one ``(N,)``."""
    if isinstance(a, ep.PyTorchTensor):  # without a tensor of products
        from torch.linalg import vecdot

        return ep.astensor(vecdot(a.raw.flatten(1), b.raw.flatten(1)))
    return (a * b).reshape((len(a), -1)).sum(axis=-1)


def norm(a: ep.Tensor) -> ep.Tensor:
    """Per-sample L2 norms: a tensor ``(N, ...)`` to ``(N,)``."""
    if isinstance(a, ep.PyTorchTensor):  # without a tensor of squares
        return ep.astensor(a.raw.flatten(1).norm(dim=1))
    return ep.norms.l2(a.reshape((len(a), -1)), axis=-1)


def combine(p: ep.Tensor, a: ep.Tensor, q: ep.Tensor, b: ep.Tensor) -> ep.Tensor:
    """Per-sample combinations ``p a + q b``: scalars ``(N,)`` and tensors ``(N, ...)``."""
    p, q = atleast_kd(p, a.ndim), atleast_kd(q, a.ndim)
    if isinstance(a, ep.PyTorchTensor):  # in one tensor
        return ep.astensor((p.raw * a.raw).addcmul_(q.raw, b.raw))
    return p * a + q * b


def is_class(outputs: ep.Tensor, classes: ep.Tensor) -> ep.Tensor:
    """The one-hot mask ``(N, C)`` of ``classes`` ``(N,)``, made on the device of ``outputs``."""
    every = ep.arange(classes, outputs.shape[-1])
    # One dtype: eagerpy cannot compare two of them on TensorFlow with NumPy 2. Not that of the
    # classes, which as 8-bit integers would count past 255 from 0 again.
    return classes.astype(every.dtype).expand_dims(-1) == every.expand_dims(0)


def margin(outputs: ep.Tensor, classes: ep.Tensor, targeted: bool = False) -> ep.Tensor:
    """The logit margin: negative where an input is adversarial.

    Args:
        outputs: Scores of the model, logits or probabilities, ``(N, C)`` with C >= 2.
        classes: Labels, or the target classes if ``targeted``, ``(N,)``, integers.
        targeted: Whether ``classes`` are to be reached instead of left.

    Returns:
        ``z_y - max_{j != y} z_j``, or its negative if targeted, ``(N,)``.
    """
    own = is_class(outputs, classes)
    other = ep.where(own, ep.full_like(outputs, -ep.inf), outputs).max(axis=-1)
    lead = ep.where(own, outputs, ep.zeros_like(outputs)).sum(axis=-1) - other
    return -lead if targeted else lead


def log_odds(outputs: ep.Tensor, classes: ep.Tensor, targeted: bool = False) -> ep.Tensor:
    """The log-odds ``log p_y - log(1 - p_y)`` of the classes, ``(N,)``: a soft :func:`margin`.

    Its normalised gradient is that of ``log p_y``, and unlike ``log p_y`` it is negative wherever
    an input is adversarial (not only there).

    Args:
        outputs: Logits of the model, ``(N, C)`` with C >= 2.
        classes: Labels, or the target classes if ``targeted``, ``(N,)``, integers.
        targeted: Whether ``classes`` are to be reached instead of left; negates the result.
    """
    own = is_class(outputs, classes)
    lead = ep.where(own, outputs, ep.zeros_like(outputs)).sum(axis=-1)
    others = ep.where(own, ep.full_like(outputs, -ep.inf), outputs)
    largest = others.max(axis=-1)
    lead = lead - largest - (others - largest.expand_dims(-1)).exp().sum(axis=-1).log()
    return -lead if targeted else lead


def value_and_gradient(
    score: Score, x: ep.Tensor, *operands: ep.Tensor
) -> tuple[tuple[ep.Tensor, ...], ep.Tensor]:
    """Everything that ``score`` returns, and the gradient of its first output in ``x``.

    On PyTorch only the graph from ``x`` to the score is differentiated: the parameters' ``grad`` is
    neither computed nor touched, whatever their ``requires_grad``. On JAX the score is compiled
    when it is first seen: pass the same function in every step, and what changes as operands.

    Args:
        score: Maps ``x`` and the operands to a tuple of tensors, the first of shape ``(N,)`` with
            sample i depending on input i alone.
        x: Inputs, ``(N, ...)``.
        operands: Further tensors that the score takes.

    Returns:
        The outputs, detached, and the gradient, of the shape of ``x``.

    Raises:
        ValueError: If the score does not depend on ``x`` differentiably.
    """
    if isinstance(x, ep.PyTorchTensor):
        return _value_and_gradient_torch(score, x, operands)
    if isinstance(x, ep.JAXTensor):
        from . import gradients_jax

        return gradients_jax.value_and_gradient(score, x, operands)
    if isinstance(x, ep.NumPyTensor):
        raise ValueError(
            "expected a model with gradients (PyTorch, JAX or TensorFlow), got NumPy inputs"
        )

    def loss(inputs: ep.Tensor) -> tuple[ep.Tensor, tuple[ep.Tensor, ...]]:
        outputs = score(inputs, *operands)
        return outputs[0].sum(), outputs

    _, outputs, gradient = ep.value_and_grad_fn(x, loss, has_aux=True)(x)
    return outputs, gradient


def _value_and_gradient_torch(
    score: Score, x: ep.Tensor, operands: tuple[ep.Tensor, ...]
) -> tuple[tuple[ep.Tensor, ...], ep.Tensor]:
    import torch

    raw = x.raw.detach().requires_grad_()
    with torch.enable_grad():
        outputs = score(ep.astensor(raw), *operands)
        loss = outputs[0].raw.sum()
    if loss.requires_grad:
        (gradient,) = torch.autograd.grad(loss, raw, allow_unused=True)
        if gradient is not None:
            return tuple(ep.astensor(o.raw.detach()) for o in outputs), ep.astensor(gradient)
    raise ValueError(
        "expected a model whose outputs are differentiable in its inputs, but no gradient reaches "
        "them: look for detach(), torch.no_grad(), rounding or a conversion to NumPy in the model "
        "or its preprocessing, and for torch.inference_mode() around the attack"
    )
