"""Patch replacement and its rivals against attackers who know them.

python studies/patch_replacement.py --data imagenet.npz --out FOLDER [--study NAME] [--images 20]

Studies:
  defences  patch replacement, the comparison defences and ART's own around EfficientNet-Lite0
  smooth    the smooth attack sC&W against patch replacement, beside DDN
  better    tries at making patch replacement better: two layers, later layers, overlap, strategies,
            K, randomised codebooks and grids
  mnist     the same tries on MNIST, around the LeNet whose weights are in --weights: a clean and
            a PGD-trained one are worth a comparison

For the first three, the npz file holds "images" (N, 224, 224, 3), uint8, and "labels"; codebooks
are learnt from its first 100 images, attacks run on the next: the two never meet. For the last, it
holds "train_images", to learn codebooks from, "test_images" (N, 28, 28) and "test_labels".

An interrupted run is gone on with. The table of accuracies is printed and written to FOLDER, with
Wilson's 95 % intervals: for each threat model what is left when no attack of that kind succeeds
within the L2 budget, and what is left under all of them together, image by image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from integer_attack import lenet5
from patch_defences import Books, Defences, made, plain, rivals, tries

from foolart.adapters.foolbox.defended_model import network_of
from foolart.evaluation.engine import evaluate
from foolart.evaluation.models import load_model
from foolart.evaluation.reporting.documents import defence_tables
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.specs import Spec

LEARNT_FROM = 100


def imagenet(
    arguments: argparse.Namespace,
    defences: Callable[..., Defences],
    attacked: list[Any] | None = None,
) -> Scenario:
    """Defences around EfficientNet-Lite0."""
    with np.load(arguments.data) as data:
        images, labels = data["images"].transpose(0, 3, 1, 2), data["labels"]
    model = load_model(Spec.of("efficientnet-lite0", "model"))
    books = Books(arguments.out / "codebooks", images[:LEARNT_FROM], model)
    test = slice(LEARNT_FROM, LEARNT_FROM + arguments.images)
    return Scenario(
        name=f"patch replacement: {arguments.study}",
        models=["efficientnet-lite0"],
        data=[("ImageNet", (images[test].transpose(0, 2, 3, 1), labels[test]))],
        attacks=attacked or attacks(arguments.steps, arguments.budget or 1.0, images[0].size),
        defences=made(defences(books, network_of(model.foolbox)), arguments.only),
        variants=["rounded"],
        threats=["white-box", "transfer", "adaptive"],
        budgets=[arguments.budget or 1.0],
        # The graph of ten draws of five images takes 4 GB.
        compute_batch=min(arguments.images, 5),
    )


# A token: within a budget as small as this it would need thousands of queries.
DECISION = {
    "name": "hop-skip-jump",
    "steps": 2,
    "initial_gradient_eval_steps": 10,
    "max_gradient_eval_steps": 20,
    "label": "HopSkipJump-2",
}


def attacks(steps: int, budget: float, values: int) -> list[Any]:
    """One for the smallest distance, one for the whole budget, one without gradients.

    Rounding a dense perturbation to levels adds the variance of rounding, 1/12 of a squared level
    for each of the ``values`` of an image: the second leaves room for it, and 2 % more, or none of
    its adversarials would count.
    """
    room = 0.98 * (budget**2 - values / 12 / 255**2) ** 0.5
    return [
        {"name": "ddn", "steps": steps, "label": f"DDN-{steps}"},
        {
            "name": "pgd-l2",
            "steps": steps,
            "epsilon": round(room, 3),
            # Far enough to cross the whole ball and a half of it.
            "rel_stepsize": 2.5 / steps,
            "random_start": False,
            "label": f"PGD2-{steps}",
        },
        DECISION,
    ]


def mnist(arguments: argparse.Namespace) -> Scenario:
    """The tries on MNIST, where a network that was trained on adversarials is at hand."""
    if arguments.weights is None:
        raise SystemExit("study mnist needs --weights")
    with np.load(arguments.data) as data:
        clean = data["train_images"][:1000, None]
        test = slice(arguments.images)
        images, labels = data["test_images"][test], data["test_labels"][test]
    network = lenet5(str(arguments.weights)).requires_grad_(False)
    model = load_model(Spec.of(("LeNet", network), "model"))
    books = Books(arguments.out / f"codebooks-{arguments.weights.stem}", clean, model)
    return Scenario(
        name="patch replacement: mnist",
        models=[(arguments.weights.stem, network)],
        data=[("MNIST", (images, labels))],
        attacks=attacks(arguments.steps, arguments.budget or 1.5, images[0].size),
        defences=made(tries(books, 50, 500, "conv1", "conv2"), arguments.only),
        variants=["rounded"],
        threats=["white-box", "transfer", "adaptive"],
        budgets=[arguments.budget or 1.5],
        compute_batch=min(arguments.images, 20),
    )


SMOOTH = [
    {"name": "smooth-cw", "steps": 40, "binary_search_steps": 3, "label": "sC&W-3x40"},
    {"name": "ddn", "steps": 20, "label": "DDN-20"},
]
STUDIES: dict[str, Callable[[argparse.Namespace], Scenario]] = {
    "defences": lambda arguments: imagenet(arguments, rivals),
    "smooth": lambda arguments: imagenet(arguments, plain, SMOOTH),
    "better": lambda arguments: imagenet(
        arguments, lambda books, _: tries(books, 392, 3927, "_blocks.0", "_blocks.5")
    ),
    "mnist": mnist,
}


def main() -> None:
    """Run the study that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--study", choices=list(STUDIES), default="defences")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20, help="of the gradient attacks")
    parser.add_argument("--budget", type=float, help="L2, images in [0, 1]")
    parser.add_argument("--weights", type=Path, help="of the LeNet of study mnist, npz")
    parser.add_argument("--only", nargs="+", metavar="LABEL", help="of the defences, some")
    parser.add_argument("--learn-only", action="store_true", help="stop after the codebooks")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    scenario = STUDIES[arguments.study](arguments)
    if arguments.learn_only:
        return
    name = arguments.study + (f"-{arguments.weights.stem}" if arguments.weights else "")
    results = evaluate(scenario, arguments.out / name, tell)
    text = defence_tables(results.summary)
    (arguments.out / f"{name}.md").write_text(text)
    print(text)
    for comparison, reason in results.errors.items():
        where = (comparison.attack, comparison.defence, comparison.threat)
        print(f"not measured: {', '.join(where)}: {reason}")


def tell(done: int, total: int, what: str) -> None:
    """Say how far the study is."""
    print(f"{done}/{total} {what}", flush=True)


if __name__ == "__main__":
    main()
