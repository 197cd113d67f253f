"""The distances of ART's attacks."""

from __future__ import annotations

import math
from typing import Any

from art.attacks.attack import EvasionAttack
from foolbox.distances import Distance, LpDistance

# The norms of ART's attacks that do not have one as a parameter.
_NORMS = {
    "BasicIterativeMethod": math.inf,
    "CarliniL0Method": 0,
    "CarliniL2Method": 2,
    "CarliniLInfMethod": math.inf,
    "DeepFool": 2,
    "NewtonFool": 2,
    "SaliencyMapMethod": 0,
}


def distance_of(attack: type[EvasionAttack], norm: Any) -> Distance:
    """The Foolbox distance of an ART attack.

    Args:
        attack: Its class.
        norm: Its parameter of that name, if it has one.

    Raises:
        ValueError: If nothing tells its norm.
    """
    norm = _NORMS.get(attack.__name__) if norm is None else norm
    if norm is None:
        raise ValueError(
            f"expected a distance for {attack.__name__}, whose norm is unknown: pass for instance "
            "distance=foolbox.distances.l2"
        )
    return LpDistance(math.inf if norm == "inf" else norm)
