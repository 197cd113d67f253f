"""A script for an environment without extras: what works there, and what a missing feature says."""

from __future__ import annotations

import importlib.util
import pkgutil

import foolbox
import numpy as np

import foolart.adapters
import foolart.adapters.art
import foolart.adapters.foolbox
import foolart.evaluation
import foolart.plugins

EXTRAS = ("torch", "art", "faiss", "safetensors", "jax", "tensorflow", "matplotlib", "typer")


def main() -> None:
    """Import every public name, and look for the extra in what is raised."""
    for name in EXTRAS:
        assert importlib.util.find_spec(name) is None, f"{name} is no part of the core"
    refused = set()
    for package in (foolart.adapters.foolbox, foolart.adapters.art, foolart.adapters):
        for name in package.__all__:
            try:
                getattr(package, name)
            except ImportError as error:
                assert 'pip install "foolart[' in str(error), f"{name}: {error}"  # noqa: PT017
                refused.add(name)
    assert "PatchReplacement" in refused
    assert not refused & {"BoundaryProjectionAttack", "IntegerMinimumNormAttack", "Quantized"}

    weight = np.ones((4, 2), np.float32)
    model = foolbox.NumPyModel(lambda x: x @ weight, (0, 1), data_format="channels_first")
    attack = foolart.adapters.foolbox.BoundaryProjectionAttack()
    try:
        attack(model, np.zeros((1, 4), np.float32), np.zeros(1, np.int64), epsilons=None)
    except ValueError as error:
        assert "PyTorch, JAX or TensorFlow" in str(error)  # noqa: PT017
    else:
        raise AssertionError("expected NumPy's missing gradients to be refused")
    modules = [m.name for m in pkgutil.iter_modules(foolart.plugins.__path__)]
    print(f"core: {len(modules)} modules, {len(refused)} names ask for an extra: {sorted(refused)}")


if __name__ == "__main__":
    main()
