"""Tables and a figure of smooth attacks against their plain twins, from a run of ``smooth``.

foolart evaluate --preset smooth --out FOLDER       (about an hour of CPU)
foolart report FOLDER --perception                  (the MAD index and other scores)
python studies/smooth.py FOLDER [--figure FILE.png]
python studies/smooth.py --before-after             (what quantisation does to sC&W)

python studies/smooth.py --flat mnist.npz lenet5.npz  (qPGD2 on flat images, at fixed epsilons)

Every image is an 8-bit one that still fools the network, but for the first line of
``--before-after``, which is scored whether it does or not; distances are L2 on [0, 1]. Only
correctly classified images count.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foolart.evaluation import Results
from foolart.evaluation.reporting.scores import stored

Floats = npt.NDArray[np.float64]

PAIRS = (
    ("sC&W, step .01", "C&W, step .01"),
    ("sC&W, step .01", "C&W, step .0003"),
    ("penalty (14)", "C&W, step .001"),
    ("relaxation (15)", "C&W, step .003"),
    ("qPGD2", "PGD2"),
    ("sBP-10", "BP-20"),
    ("sBP-20", "BP-20"),
    ("sBP-20", "sC&W, step .01"),
    ("sBP-10", "sC&W, step .01"),
    ("Integer-20, weighted", "Integer-20"),
    ("Integer-20, weighted", "sBP-20"),
    ("sC&W, step .01, weighted quantiser", "sC&W, step .01"),
)


@dataclass(frozen=True)
class Scores:
    """What an attack reached with Q_lambda, image by image; NaN where it failed."""

    distance: Floats
    mad: Floats
    appearance: Floats


def main() -> None:
    """Print the tables that the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--figure", type=Path, help="draw distance and appearance over the step")
    parser.add_argument("--before-after", action="store_true")
    parser.add_argument("--flat", nargs=2, metavar=("DATA", "WEIGHTS"))
    arguments = parser.parse_args()
    if arguments.before_after:
        before_after()
    if arguments.flat:
        flat(*arguments.flat)
    if arguments.folder is None:
        sys.exit(None if arguments.before_after or arguments.flat else parser.format_usage())
    attacks = read(arguments.folder)
    print(table(attacks))
    print(pairs(attacks))
    print(flatness(arguments.folder))
    if arguments.figure is not None:
        sweep(attacks, arguments.figure)


def read(folder: Path) -> dict[str, Scores]:
    """The scores of each attack, its images in their order."""
    results = Results.load(folder)
    scores = stored(folder, results.records)
    if not scores:
        sys.exit(f"{folder} holds no scores: run foolart report {folder} --perception first")
    lines: dict[str, dict[int, tuple[float, float, float]]] = {}
    for r in results.records:
        if r.correct and r.variant == "lagrangian":
            found = scores.get((r.comparison, r.image), {}) if r.success else {}
            nan = float("nan")
            lines.setdefault(r.attack, {})[r.image] = (
                r.distance if r.success else nan,
                found.get("mad", nan),
                found.get("mad_appearance", nan),
            )
    return {
        name: Scores(*np.array([row for _, row in sorted(rows.items())]).T)
        for name, rows in lines.items()
    }


def table(attacks: dict[str, Scores]) -> str:
    """Success, distance and MAD of each attack."""
    lines = [
        "| attack + Q_lambda | P | mean L2 | MAD | MAD = 0 | appearance |",
        "|---|---|---|---|---|---|",
    ]
    for name, s in attacks.items():
        ok = np.isfinite(s.distance)
        if not ok.any():
            lines.append(f"| {name} | 0.00 | - | - | - | - |")
            continue
        lines.append(
            f"| {name} | {ok.mean():.2f} | {s.distance[ok].mean():.3f} | {s.mad[ok].mean():.3f} | "
            f"{np.sum(s.mad == 0)} of {len(ok)} | {s.appearance[ok].mean():.3f} |"
        )
    return "\n".join(lines) + "\n"


def pairs(attacks: dict[str, Scores]) -> str:
    """How often one attack is better than another, over the images that both fool."""
    lines = [
        "| attack | against | closer | ratio of distances | MAD lower, equal, higher | "
        "of the equal, at 0 | appearance lower |",
        "|---|---|---|---|---|---|---|",
    ]
    for a, b in PAIRS:
        if a not in attacks or b not in attacks:
            continue
        one, other = attacks[a], attacks[b]
        both = np.isfinite(one.distance) & np.isfinite(other.distance)
        d, m = one.distance[both] / other.distance[both], one.mad[both] - other.mad[both]
        lines.append(
            f"| {a} | {b} | {np.sum(d < 1)} of {both.sum()} | {np.exp(np.log(d).mean()):.2f} | "
            f"{np.sum(m < 0)}, {np.sum(m == 0)}, {np.sum(m > 0)} | "
            f"{np.sum((m == 0) & (one.mad[both] == 0))} | "
            f"{np.sum(one.appearance[both] < other.appearance[both])} of {both.sum()} |"
        )
    return "\n".join(lines) + "\n"


def flatness(folder: Path) -> str:
    """qPGD2 against PGD2, image by image, from the flattest original to the busiest."""
    from PIL import Image

    distances: dict[str, dict[int, float]] = {"qPGD2": {}, "PGD2": {}}
    flat: dict[int, float] = {}
    for r in Results.load(folder).records:
        if r.correct and r.variant == "lagrangian" and r.attack in distances:
            distances[r.attack][r.image] = r.distance
            x = np.asarray(Image.open(folder / r.original), dtype=np.int64)
            steps = [np.abs(np.diff(x, axis=axis)).max(axis=-1).ravel() <= 1 for axis in (0, 1)]
            flat[r.image] = float(np.concatenate(steps).mean())
    lines = [
        "| image | neighbours alike to a level | PGD2 | qPGD2 | ratio |",
        "|---|---|---|---|---|",
    ]
    for image in sorted(flat, key=lambda i: -flat[i]):
        plain, smooth = distances["PGD2"][image], distances["qPGD2"][image]
        lines.append(
            f"| {image} | {flat[image]:.2f} | {plain:.3f} | {smooth:.3f} | {smooth / plain:.2f} |"
        )
    return "\n".join(lines) + "\n"


def sweep(attacks: dict[str, Scores], file: Path) -> None:
    """Draw distance and appearance stage over the step, where all images are fooled."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for prefix, mark in (("C&W", "o-"), ("sC&W", "s-")):
        named = {
            float(name.removeprefix(f"{prefix}, step ")): s
            for name, s in attacks.items()
            if name.startswith(f"{prefix}, step ") and "quantiser" not in name
        }
        full = {k: s for k, s in sorted(named.items()) if np.isfinite(s.distance).all()}
        for axis, values in zip(
            axes,
            ([s.distance.mean() for s in full.values()], [s.mad.mean() for s in full.values()]),
            strict=True,
        ):
            axis.plot(list(full), values, mark, label=prefix)
    axes[0].set(yscale="log", ylabel="mean L2 distance")
    axes[1].set(ylabel="mean MAD index")
    axes[1].set_yscale("symlog", linthresh=0.1)
    for axis in axes:
        axis.set(xscale="log", xlabel="step of Adam")
        axis.grid(color="0.9")
        axis.legend(frameon=False)
    figure.savefig(file, dpi=150)


def before_after() -> None:
    """What sC&W finds, rounded whether it still fools or not, and after two quantisers."""
    import foolbox
    from digital_images import Ready

    from foolart.adapters.foolbox import Quantized, SmoothCarliniWagnerAttack
    from foolart.evaluation.models import load_model
    from foolart.evaluation.perception import mad
    from foolart.evaluation.specs import Spec

    model = load_model(Spec.of("efficientnet-lite0", "model")).foolbox
    images, labels = foolbox.samples(model, dataset="imagenet", batchsize=20)
    right = model(images).argmax(dim=-1) == labels
    x, y = images[right], labels[right]
    attack = SmoothCarliniWagnerAttack.imagenet(binary_search_steps=5, steps=20, stepsize=0.01)
    raw, _, _ = attack(model, x, y, epsilons=None)
    ready = Ready(raw)
    found = {
        "rounded": (raw * 255).round() / 255,
        "Q_lambda": Quantized(ready)(model, x, y, epsilons=None)[0],
        "Q_lambda, weighted": Quantized(ready, weights="visibility")(model, x, y, epsilons=None)[0],
    }
    print("| sC&W, step .01 | P | mean L2 | MAD | appearance |\n|---|---|---|---|---|")
    for name, adversarials in found.items():
        fooled = model(adversarials).argmax(dim=-1) != y
        levels = [(t * 255).round().byte().movedim(1, -1).numpy() for t in (x, adversarials)]
        score = mad(*levels)
        distance = (adversarials - x).flatten(1).norm(dim=1).mean()
        print(
            f"| {name} | {fooled.float().mean():.2f} | {distance:.3f} | {np.mean(score.score):.3f} "
            f"| {np.mean(score.appearance):.3f} |"
        )


def flat(data: str, weights: str) -> None:
    """The success of PGD2 and qPGD2 at fixed epsilons, on MNIST's flat images."""
    import foolbox
    import torch

    from foolart.adapters.foolbox import SmoothL2ProjectedGradientDescentAttack
    from foolart.evaluation.data import load_data
    from foolart.evaluation.models import load_model
    from foolart.evaluation.specs import Spec

    name = f"studies.integer_attack:lenet5(weights={weights!r})"
    model = load_model(Spec.of(name, "model")).foolbox
    part = load_data(Spec.of(f"{data}(images='test_images', labels='test_labels')", "data"))
    x = torch.from_numpy(np.array(part.images(0, 200))).float() / 255
    y = torch.as_tensor(np.asarray(part.labels[:200])).long()
    right = model(x).argmax(dim=-1) == y
    plain = foolbox.attacks.L2ProjectedGradientDescentAttack(steps=40, random_start=False)
    attacks = {"PGD2": plain} | {
        f"qPGD2, alpha {alpha}": SmoothL2ProjectedGradientDescentAttack(steps=40, alpha=alpha)
        for alpha in (0.95, 0.997)
    }
    epsilons = [1, 2, 3, 5, 8]
    print("| success at epsilon | " + " | ".join(map(str, epsilons)) + " |")
    print("|---" * 6 + "|")
    for title, attack in attacks.items():
        _, _, success = attack(model, x[right], y[right], epsilons=epsilons)
        rates = success.float().mean(dim=1)
        print(f"| {title} | " + " | ".join(f"{rate:.2f}" for rate in rates) + " |")


if __name__ == "__main__":
    main()
