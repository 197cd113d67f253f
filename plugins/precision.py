"""Full-precision matrix products, whatever shortcuts the caller has switched on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import eagerpy as ep


@contextmanager
def exact_products(dummy: ep.Tensor) -> Iterator[None]:
    """Compute ``float32`` products in ``float32``, in the framework of a tensor.

    TF32 and bfloat16 shortcuts and PyTorch's autocast, which leave three digits of a product, are
    off inside this context, and afterwards as they were.
    """
    if isinstance(dummy, ep.PyTorchTensor):
        with _torch(dummy.raw.device.type):
            yield
    elif isinstance(dummy, ep.JAXTensor):
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif isinstance(dummy, ep.TensorFlowTensor):
        import tensorflow as tf

        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)
    else:
        yield


@contextmanager
def _torch(device: str) -> Iterator[None]:
    import torch

    backends: Any = torch.backends
    # Newer releases have one setting a backend and refuse to read the older ones once it is used.
    new = hasattr(backends, "fp32_precision")
    owners = [backends.cuda.matmul, backends.mkldnn.matmul] if new else [backends.cuda.matmul]
    name, exact = ("fp32_precision", "ieee") if new else ("allow_tf32", False)
    before = [getattr(owner, name) for owner in owners]
    for owner in owners:
        setattr(owner, name, exact)
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for owner, value in zip(owners, before, strict=True):
            setattr(owner, name, value)
