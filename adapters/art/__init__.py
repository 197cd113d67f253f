"""Native ART attacks and defences, and the bridge between the toolkits.

Names are imported when they are first used: ART and the frameworks are extras.
"""

from __future__ import annotations

from typing import Any

from foolart.adapters.lazy import find
from foolart.adapters.versions import check_version

check_version("adversarial-robustness-toolbox")

_HOMES = {
    "AdversarialTraining": "adversarial_training",
    "ArtModel": "bridge",
    "BilateralFilter": "preprocessors",
    "BitDepthReduction": "preprocessors",
    "BlurNetTrainer": "blurnet",
    "BlurNetTransformer": "blurnet",
    "BoundaryProjection": "boundary_projection",
    "FoolboxAttack": "foolbox_attack",
    "GaussianNoise": "preprocessors",
    "GridDetector": "grid_detector",
    "InputBlur": "blurnet",
    "IntegerMinimumNorm": "integer_minimum_norm",
    "LagrangianQuantization": "lagrangian_quantization",
    "LinfIntegerMinimumNorm": "integer_minimum_norm",
    "MedianSmoothing": "preprocessors",
    "PatchReplacement": "patch_replacement",
    "PatchReplacementTransformer": "patch_replacement",
    "PixelDeflection": "preprocessors",
    "PreprocessorModule": "preprocessor_module",
    "RandomPreprocessorModule": "preprocessor_module",
    "QuantizedDDN": "quantized_ddn",
    "RobustPhysicalPerturbations": "robust_physical_perturbations",
    "SmoothBoundaryProjection": "smooth_boundary_projection",
    "SmoothCarliniWagner": "smooth_carlini_wagner",
    "SmoothProjectedGradientDescent": "smooth_projected_gradient_descent",
    "StepLeastLikely": "adversarial_training",
    "art_attack": "from_art",
    "art_preprocessor": "preprocessor_module",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    return find(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
