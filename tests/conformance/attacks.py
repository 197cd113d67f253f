"""Our attacks as the conformance tests run them, with few steps."""

from __future__ import annotations

from typing import Any

import foolbox

from foolart.adapters import foolbox as native

RADIUS = 1.75  # what qPGD2 is given
QUANTIZATIONS = ("rounding", "distortion", "gradient", "lagrangian")


def attacks(channel_axis: int = 1, patience: int = 1) -> dict[str, Any]:
    """By name, for images whose channels are on an axis; patience multiplies the slow ones' steps.

    Targets far away, as the means of colours that Foolbox's own tests attack, take some.
    """
    smoothing = {"channel_axis": channel_axis}
    return {
        "BP": native.BoundaryProjectionAttack(steps=12),
        "smooth BP": native.SmoothBoundaryProjectionAttack(
            steps=12, smoothing_alpha=0.9, **smoothing
        ),
        "sC&W": native.SmoothCarliniWagnerAttack(
            binary_search_steps=4, steps=20 * patience, initial_const=10.0, alpha=0.9, **smoothing
        ),
        "qPGD2": native.SmoothL2ProjectedGradientDescentAttack(
            rel_stepsize=0.25, steps=8, alpha=0.9, **smoothing
        ),
        "DDN, rounded": native.QuantizedDDNAttack(steps=20),
        "DDN, Lagrangian": native.QuantizedDDNAttack(steps=20, quantization="lagrangian"),
        "integer": native.IntegerMinimumNormAttack(steps=8, forwards=4),
        "integer, L_inf": native.LinfIntegerMinimumNormAttack(steps=8, forwards=4),
        **{
            f"quantised DDN, {method}": native.Quantized(
                foolbox.attacks.DDNAttack(steps=12 * patience), method=method
            )
            for method in QUANTIZATIONS
        },
    }


ATTACKS = attacks()


def epsilon(name: str) -> float | None:
    """The epsilon that an attack is run with: None where it looks for the smallest."""
    return RADIUS if name == "qPGD2" else None
