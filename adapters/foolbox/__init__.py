"""Native Foolbox attacks and models.

Names are imported when they are first used: some need PyTorch, which is an extra.
"""

from __future__ import annotations

from typing import Any

from foolart.adapters.lazy import find
from foolart.adapters.versions import check_version

check_version("foolbox")

_HOMES = {
    "BoundaryProjectionAttack": "boundary_projection",
    "IntegerMinimumNormAttack": "integer_minimum_norm",
    "LinfIntegerMinimumNormAttack": "integer_minimum_norm",
    "MinimalEpsilon": "minimal_epsilon",
    "Quantized": "quantized",
    "QuantizedDDNAttack": "quantized_ddn",
    "RobustPhysicalPerturbationsAttack": "robust_physical_perturbations",
    "SmoothBoundaryProjectionAttack": "smooth_boundary_projection",
    "SmoothCarliniWagnerAttack": "smooth_carlini_wagner",
    "SmoothL2ProjectedGradientDescentAttack": "smooth_projected_gradient_descent",
    "SmoothedAfterwards": "smoothed_afterwards",
    "defend": "defended_model",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    return find(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
