"""What attacks are called in scenarios."""

from __future__ import annotations

# name: class in foolart.adapters.foolbox
OURS = {
    "boundary-projection": "BoundaryProjectionAttack",
    "quantized-ddn": "QuantizedDDNAttack",
    "smooth-cw": "SmoothCarliniWagnerAttack",
    "smooth-pgd-l2": "SmoothL2ProjectedGradientDescentAttack",
    "smooth-boundary-projection": "SmoothBoundaryProjectionAttack",
    "integer-minimum-norm": "IntegerMinimumNormAttack",
    "integer-minimum-norm-linf": "LinfIntegerMinimumNormAttack",
}
# name: class in foolart.evaluation.baselines
MENDED = {"cw": "CarliniWagner", "ead": "ElasticNet", "fmn": "FastMinimumNorm"}
# name: class in foolbox.attacks
BUILT_IN = {
    "adam-pgd-l2": "L2AdamProjectedGradientDescentAttack",
    "adam-pgd-linf": "LinfAdamProjectedGradientDescentAttack",
    "bim-l2": "L2BasicIterativeAttack",
    "bim-linf": "LinfBasicIterativeAttack",
    "blended-noise": "LinearSearchBlendedUniformNoiseAttack",
    "blur": "GaussianBlurAttack",
    "boundary": "BoundaryAttack",
    "brendel-bethge": "L2BrendelBethgeAttack",
    "contrast": "BinarySearchContrastReductionAttack",
    "ddn": "DDNAttack",
    "deepfool": "L2DeepFoolAttack",
    "deepfool-linf": "LinfDeepFoolAttack",
    "fgm": "L2FastGradientAttack",
    "fgsm": "LinfFastGradientAttack",
    "fmn-l1": "L1FMNAttack",
    "fmn-linf": "LInfFMNAttack",
    "gaussian-noise": "L2RepeatedAdditiveGaussianNoiseAttack",
    "gen-attack": "GenAttack",
    "hop-skip-jump": "HopSkipJumpAttack",
    "inversion": "InversionAttack",
    "mi-fgm": "L2MomentumIterativeFastGradientMethod",
    "mi-fgsm": "LinfMomentumIterativeFastGradientMethod",
    "newtonfool": "NewtonFoolAttack",
    "pgd-l1": "L1ProjectedGradientDescentAttack",
    "pgd-l2": "L2ProjectedGradientDescentAttack",
    "pgd-linf": "LinfProjectedGradientDescentAttack",
    "pointwise": "PointwiseAttack",
    "salt-and-pepper": "SaltAndPepperNoiseAttack",
    "virtual-adversarial": "VirtualAdversarialAttack",
}
# Decision- and score-based: no gradients. Their loops stop, shrink or draw for the whole batch.
GRADIENT_FREE = {
    "BinarySearchContrastReductionAttack",
    "BinarizationRefinementAttack",
    "BoundaryAttack",
    "GaussianBlurAttack",
    "GenAttack",
    "HopSkipJumpAttack",
    "InversionAttack",
    "L2RepeatedAdditiveGaussianNoiseAttack",
    "LinearSearchBlendedUniformNoiseAttack",
    "PointwiseAttack",
    "SaltAndPepperNoiseAttack",
    "SpatialAttack",
}
WHOLE_BATCH = {
    "BoundaryAttack",
    "GenAttack",
    "HopSkipJumpAttack",
    "L0BrendelBethgeAttack",
    "L1BrendelBethgeAttack",
    "L2BrendelBethgeAttack",
    "L2DeepFoolAttack",
    "LinfDeepFoolAttack",
    "LinfinityBrendelBethgeAttack",
    "LinearSearchBlendedUniformNoiseAttack",
    "PointwiseAttack",
    "SaltAndPepperNoiseAttack",
}
