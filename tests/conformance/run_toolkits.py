"""The toolkits' own tests, from checkouts of their repositories, with our attacks in them.

python tests/conformance/run_toolkits.py --foolbox PATH [--backend pytorch] --art PATH

Foolbox's ``tests/test_attacks.py`` and ``tests/test_attacks_base.py`` run as they are, offline, on
the backends that are installed; only the contents of their lists of attacks are ours. ART's tests
of attacks download MNIST and compare with numbers of one attack each: what they share, the
functions of ``tests/attacks/utils.py``, runs on scikit-learn's digits, for each of our attacks. Its
check of targeted attacks is left out: it passes ``x_init``, which only attacks with a start have.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
BACKENDS = {"pytorch": "torch", "jax": "jax", "tensorflow": "tensorflow"}
LISTS = {"test_attacks": ("attacks", "targeted_attacks"), "test_attacks_base": ("attacks",)}


def load(path: Path) -> Any:
    """A module of our tests by its file: the checkouts have packages called ``tests``, too."""
    spec = importlib.util.spec_from_file_location(f"foolart_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class OurAttacks:
    """A plugin of pytest that changes the contents of Foolbox's lists of attacks."""

    def __init__(self, backend: str) -> None:
        ours = load(HERE / "attacks.py")
        # Their models' images fill their bounds, and the budgets of their attacks are large.
        self.attacks = ours.attacks(channel_axis=1 if backend == "pytorch" else 3, patience=8)
        # It rounds for the smallest distortion and never looks whether the model is still fooled.
        del self.attacks["quantised DDN, distortion"]
        self.budget = {name: 50.0 for name in self.attacks if ours.epsilon(name) is not None}
        self.done: set[str] = set()

    def pytest_pycollect_makeitem(self, collector: Any, name: str, obj: Any) -> None:
        module = getattr(collector, "obj", None)
        title = getattr(module, "__name__", "").rpartition(".")[2]
        if title not in LISTS or title in self.done:
            return
        self.done.add(title)
        for which in LISTS[title]:
            targets: list[Any] = getattr(module, which)
            if title == "test_attacks_base":
                targets[:] = [attack.repeat(n) if n > 1 else attack
                              for attack in self.attacks.values() for n in (1, 3)]  # fmt: skip
            else:
                targets[:] = [module.AttackTestTarget(attack, self.budget.get(key), uses_grad=True)
                              for key, attack in self.attacks.items()]  # fmt: skip


def run_foolbox(checkout: Path, backend: str) -> int:
    """Foolbox's tests of attacks in this process; the exit status of pytest."""
    import pytest

    os.chdir(checkout)
    sys.path.insert(0, str(checkout / "tests"))
    files = [f"tests/{title}.py" for title in LISTS]
    options = ["-q", "-p", "no:cacheprovider", "--backend", backend, "--skipslow"]
    return int(pytest.main([*files, *options], plugins=[OurAttacks(backend)]))


def run_art(checkout: Path) -> int:
    """What ART's tests of attacks share, for each of ours; the number of failures."""
    import numpy as np
    import torch

    digits = load(HERE.parent / "networks.py").train_digits(48)
    sys.path.insert(0, str(checkout))
    if importlib.util.find_spec("keras") is None:  # imported there, and not used on PyTorch
        sys.modules.update({name: ModuleType(name) for name in ("keras", "keras.backend")})
    utils = importlib.import_module("tests.attacks.utils")
    import art
    from art.estimators.classification import PyTorchClassifier
    from art.estimators.estimator import BaseEstimator, LossGradientsMixin

    import foolart.adapters.art as ours

    print(f"ART {art.__version__} of {Path(art.__file__).parent}")
    classifier = PyTorchClassifier(
        digits.net, torch.nn.CrossEntropyLoss(), digits.images[0].shape, 10, clip_values=(0.0, 1.0)
    )
    x, y = digits.images.numpy(), np.eye(10, dtype=np.float32)[digits.labels.numpy()]
    data = (x[:24], y[:24], x[24:], y[24:])
    parameters: dict[str, dict[str, Any]] = {
        "BoundaryProjection": {},
        "SmoothBoundaryProjection": {},
        "SmoothCarliniWagner": {"binary_search_steps": 2},
        "SmoothProjectedGradientDescent": {"eps": 4.0, "rel_stepsize": 0.1},
        "QuantizedDDN": {},
        "IntegerMinimumNorm": {},
        "LinfIntegerMinimumNorm": {},
    }
    failed = 0
    for name, more in parameters.items():
        made = getattr(ours, name)
        attack = made(classifier, max_iter=15, verbose=False, **more)
        requirements = made._estimator_requirements
        checks = {
            "untargeted": lambda a=attack: utils.back_end_untargeted_images(a, data, "pytorch"),
            "defended": lambda a=attack: utils.backend_test_defended_images(a, data),
            "start": lambda a=attack: utils.backend_test_random_initialisation_images(a, data),
            "masked": lambda a=attack: utils.backend_masked_images(a, data),
            "estimators": lambda m=made, r=requirements: (
                utils.backend_test_classifier_type_check_fail(m, list(r))
            ),
        }
        assert {BaseEstimator, LossGradientsMixin} & set(requirements)
        for check, run in checks.items():
            try:
                run()
            except Exception as error:  # whatever their tests raise is their verdict
                failed += 1
                print(f"FAILED {name} {check}: {type(error).__name__}: {error}")
            else:
                print(f"passed {name} {check}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--foolbox", type=Path, metavar="PATH", help="a checkout of Foolbox")
    parser.add_argument("--art", type=Path, metavar="PATH", help="a checkout of ART")
    parser.add_argument("--backend", choices=BACKENDS, help="one of Foolbox's, in this process")
    given = parser.parse_args()
    if given.foolbox and given.backend:
        return run_foolbox(given.foolbox.resolve(), given.backend)
    failed = 0
    if given.foolbox:
        for backend, package in BACKENDS.items():
            if importlib.util.find_spec(package) is None:
                print(f"skipped Foolbox on {backend}: no {package}")
                continue
            print(f"Foolbox on {backend}", flush=True)
            command = [sys.executable, __file__, "--foolbox", given.foolbox, "--backend", backend]
            failed += subprocess.run(list(map(str, command)), check=False).returncode != 0
    if given.art:
        failed += run_art(given.art.resolve())
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
