"""What studies/replication.py compares: networks, attacks and their settings."""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

# The budgets at which the thesis reads P_upp.
BUDGETS = {"mnist": 2.0, "cifar10": 0.7, "imagenet": 1.0}
LENET = "integer_attack:lenet5"
SETTINGS: dict[str, tuple[str, Spec]] = {
    "mnist": ("mnist", {"name": LENET, "weights": "models/mnist_lenet5_clean.npz"}),
    "mnist-robust": ("mnist", {"name": LENET, "weights": "models/mnist_lenet5_adv_linf03.npz"}),
    "cifar10": (
        "cifar10",
        {
            "name": "foolart.evaluation.networks:resnet20",
            "weights": "models/cifar10_resnet20.npz",
        },
    ),
    "cifar10-robust": (
        "cifar10",
        {
            "name": "replication:certified",
            "weights": "models/cifar10_cnn_certified_l2.npz",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.225, 0.225, 0.225],
        },
    ),
    "imagenet": ("imagenet", {"name": "efficientnet-lite0"}),
}

# The networks that stand beside others in the smooth paper's tables 2 and 3.
ROBUST = {"mnist": ("mnist-robust",), "cifar10": ("cifar10-robust",)}

# An L_inf or L2 search by bisection, each image's smallest epsilon of 31: five runs of the attack.
SEARCH = {"epsilons": 31}
EXHAUSTIVE = {"epsilons": 100, "search": "exhaustive"}
# Six settings of every attack of 100 gradients: the same budget for the choice.
GRID: dict[str, list[Spec]] = {
    "I-FGSM 5x20": [
        {"name": "bim-linf", "steps": 20, "rel_stepsize": s, "search": SEARCH, "alone": False}
        for s in (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
    ],
    "PGD2 5x20": [
        {"name": "bim-l2", "steps": 20, "rel_stepsize": s, "search": SEARCH, "alone": False}
        for s in (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
    ],
    "C&W 5x20": [
        {"name": "cw", "binary_search_steps": 5, "steps": 20, "stepsize": s, "initial_const": c}
        for s in (0.003, 0.03, 0.3)
        for c in (1.0, 100.0)
    ],
    "DDN-100": [
        {"name": "ddn", "steps": 100, "init_epsilon": e, "gamma": g}
        for e in (0.3, 1.0, 3.0)
        for g in (0.05, 0.1)
    ],
    "C&W 1x100": [
        {"name": "cw", "binary_search_steps": 1, "steps": 100, "stepsize": s, "initial_const": c}
        for s in (0.003, 0.03, 0.3)
        for c in (1.0, 100.0)
    ],
    "BP-100": [
        {"name": "boundary-projection", "steps": 100, "alpha": a, "gamma_min": g}
        for a in (1.0, 2.0, 4.0)
        for g in (0.5, 0.7)
    ],
}
# As published, or without parameters to choose.
FIXED: dict[str, Spec] = {
    "FGSM 100x1": {"name": "fgsm", "search": EXHAUSTIVE, "alone": False},
    "DDN-20": {"name": "ddn", "steps": 20},
    "DDN-20, rounded in its loop": {"name": "quantized-ddn", "steps": 20},
    "DDN-100, rounded in its loop": {"name": "quantized-ddn", "steps": 100},
    "DDN-100, Q_delta in its loop": {
        "name": "quantized-ddn",
        "steps": 100,
        "quantization": "lagrangian",
    },
    "BP-20": {"name": "boundary-projection", "steps": 20},
    "BP-20, continuous": {"name": "boundary-projection", "steps": 20, "levels": "none"},
    "BP-100, continuous": {"name": "boundary-projection", "steps": 100, "levels": "none"},
    "Integer-20": {"name": "integer-minimum-norm", "steps": 20},
    "Integer-100": {"name": "integer-minimum-norm", "steps": 100},
}
# Table 5.1 of the thesis.
STRATEGIES: dict[str, Spec] = {
    f"BP-{n}, {how}": {**spec, "steps": n}
    for n in (20, 100)
    for how, spec in {
        "rounded in the end": {"name": "boundary-projection", "levels": "none"},
        "rounded in each step": {"name": "replication:RoundedSteps"},
        "Q_IN, Q_OUT": {"name": "boundary-projection"},
    }.items()
}
# Figure 5.3, on the validation part.
PARAMETERS: dict[str, Spec] = {
    f"alpha {a}, gamma_min {g}": {
        "name": "boundary-projection",
        "steps": 20,
        "alpha": float(a),
        "gamma_min": g,
    }
    for a in (1, 2, 3, 4)
    for g in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
}
# Figure 5.7.
SPEED: dict[str, Spec] = {
    f"{label}-{n}": {"name": name, "steps": n}
    for n in (20, 40, 60, 80, 100)
    for label, name in {
        "BP": "boundary-projection",
        "DDN, rounded in its loop,": "quantized-ddn",
        "Integer": "integer-minimum-norm",
    }.items()
}
# The smooth paper's section 5: C&W with r explicit, and the constraint, at the same step sizes.
MNIST_SMOOTHING = {"alpha": 0.95, "initial_const": 15.0, "binary_search_steps": 5, "steps": 20}
SMOOTH: dict[str, Spec] = {
    "FGSM": {"name": "fgsm", "search": EXHAUSTIVE, "alone": False},
    "I-FGSM": {"name": "bim-linf", "steps": 20, "search": SEARCH, "alone": False},
    "PGD2": {"name": "bim-l2", "steps": 20, "search": SEARCH, "alone": False},
    "qPGD2": {
        "name": "smooth-pgd-l2",
        "steps": 20,
        "rel_stepsize": 0.2,
        "alpha": 0.95,
        "search": SEARCH,
        "alone": False,
    },
    **{
        f"{label}, step {s}": {
            "name": "smooth-cw",
            "smoothness": how,
            "stepsize": s,
            **MNIST_SMOOTHING,
        }
        for label, how in {"C&W": "free", "sC&W": "constraint"}.items()
        for s in (0.01, 0.03, 0.1, 0.3, 1.0)
    },
    "sBP-20": {"name": "smooth-boundary-projection", "steps": 20, "alpha": 0.95},
}
# Its table 3, with the paper's epsilons; and what minimal adversarials do there.
TRANSFER: dict[str, Spec] = {
    "FGSM, .3": {"name": "fgsm", "epsilon": 0.3},
    "I-FGSM, .3": {"name": "bim-linf", "steps": 20, "epsilon": 0.3},
    "PGD2, 5": {"name": "bim-l2", "steps": 20, "epsilon": 5.0},
    "qPGD2, 5": {
        "name": "smooth-pgd-l2",
        "steps": 20,
        "rel_stepsize": 0.2,
        "alpha": 0.95,
        "epsilon": 5.0,
    },
    **{
        f"{label}, step .1": {
            "name": "smooth-cw",
            "smoothness": how,
            "stepsize": 0.1,
            "confidence": 1.0,
            **MNIST_SMOOTHING,
        }
        for label, how in {"C&W": "free", "sC&W": "constraint"}.items()
    },
    "DDN-100": {"name": "ddn", "steps": 100},
    "BP-100": {"name": "boundary-projection", "steps": 100},
    "Integer-100": {"name": "integer-minimum-norm", "steps": 100},
}
GUARDS: list[Spec] = [
    {"name": "gaussian-noise", "std": 0.05, "label": "noise .05 (control)"},
    {"name": "gaussian-noise", "std": 0.224, "label": "noise .224 (control)"},
    {"name": "bilateral", "label": "bilateral"},
]
