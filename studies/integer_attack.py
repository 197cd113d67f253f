"""Compare the integer minimum-norm attack with others, image by image, and draw its curves.

python studies/integer_attack.py --out FOLDER [--model SPEC] [--data SPEC] [--count 20] [--only A,B]
python studies/integer_attack.py --explain FILE.png

Every attack's images are rounded to 8 bits and judged again by the network; distances are L2 on
[0, 1], of exactly those images. Only correctly classified images count. What an attack found is
kept in FOLDER, and is not computed again. Models and data are named as for ``foolart evaluate``:

--model efficientnet-lite0 --data foolbox:imagenet
--model "foolart.evaluation.networks:resnet20(weights='cifar10_resnet20.npz')"
--model "studies.integer_attack:lenet5(weights='mnist_lenet5_clean.npz')"
--data "mnist.npz(images='test_images', labels='test_labels')"
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eagerpy as ep
import foolbox
import numpy as np
import torch

from foolart.adapters.foolbox import (
    BoundaryProjectionAttack,
    IntegerMinimumNormAttack,
    MinimalEpsilon,
    Quantized,
    QuantizedDDNAttack,
    SmoothBoundaryProjectionAttack,
)
from foolart.adapters.weights import load_weights
from foolart.evaluation.baselines import CarliniWagner, FastMinimumNorm
from foolart.evaluation.counting import CountingModel
from foolart.evaluation.data import load_data
from foolart.evaluation.models import load_model
from foolart.evaluation.perception import mad
from foolart.evaluation.specs import Spec

REFERENCE = "DDN-100, rounded in its loop"
ATTACKS: dict[str, Callable[[], Any]] = {
    "Integer-10": lambda: IntegerMinimumNormAttack(steps=10),
    "Integer-20": lambda: IntegerMinimumNormAttack(steps=20),
    "Integer-20, one class": lambda: IntegerMinimumNormAttack(steps=20, candidates=1),
    "Integer-50": lambda: IntegerMinimumNormAttack(steps=50),
    "Integer-100": lambda: IntegerMinimumNormAttack(steps=100),
    "Integer-20, weighted": lambda: IntegerMinimumNormAttack(steps=20, weights="visibility"),
    "BP-20": lambda: BoundaryProjectionAttack(steps=20),
    "BP-100": lambda: BoundaryProjectionAttack(steps=100),
    "Smooth BP-20": lambda: SmoothBoundaryProjectionAttack(steps=20),
    "DDN-20, rounded in its loop": lambda: QuantizedDDNAttack(steps=20),
    REFERENCE: lambda: QuantizedDDNAttack(steps=100),
    "DDN-100, Q_delta in its loop": lambda: QuantizedDDNAttack(
        steps=100, quantization="lagrangian"
    ),
    "DDN-100 + Q_lambda": lambda: Quantized(foolbox.attacks.DDNAttack(steps=100)),
    "FMN-100, repaired, + Q_lambda": lambda: Quantized(FastMinimumNorm(steps=100)),
    "C&W 5x20 + Q_lambda": lambda: Quantized(CarliniWagner(binary_search_steps=5, steps=20)),
    # Its best step differs a hundredfold from network to network.
    **{
        f"C&W 5x20, step {step}, constant 10 + Q_lambda": lambda step=step: Quantized(
            CarliniWagner(binary_search_steps=5, steps=20, stepsize=step, initial_const=10.0)
        )
        for step in (0.003, 0.01, 0.03, 0.1, 0.3)
    },
    "PGD2 5x20 at the smallest epsilon + Q_lambda": lambda: Quantized(
        MinimalEpsilon(
            foolbox.attacks.L2PGD(steps=20, rel_stepsize=0.125, random_start=False), epsilons=31
        )
    ),
}
# Those that only look at digital images: what they see on the way counts.
DIGITAL = ("Integer-", "BP-", "DDN-20, rounded", REFERENCE, "DDN-100, Q_delta")


class LeNet5(torch.nn.Module):
    """The MNIST network of AdverTorch, 28x28 gray in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(32, 64, 3, padding=1)
        self.linear1 = torch.nn.Linear(64 * 7 * 7, 200)
        self.linear2 = torch.nn.Linear(200, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of 10 classes."""
        for layer in (self.conv1, self.conv2):
            x = torch.max_pool2d(torch.relu(layer(x)), 2)
        logits: torch.Tensor = self.linear2(torch.relu(self.linear1(x.flatten(1))))
        return logits


def lenet5(weights: str) -> torch.nn.Module:
    """The network with the weights of a file."""
    network = LeNet5().eval()
    load_weights(network, Path(weights))
    return network


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--data", default="foolbox:imagenet")
    parser.add_argument("--count", type=int, help="as many images; all by default")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--only", help="attacks whose name contains one of these, a|b|c")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--mad", action="store_true", help="also the MAD index, for RGB images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--explain", type=Path, help="draw why rounding is optimal, and no more")
    arguments = parser.parse_args()
    if arguments.explain is not None:
        explain(arguments.explain)
        return
    if arguments.out is None:
        parser.error("--out is needed")
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    model = load_model(Spec.of(arguments.model, "model"), arguments.device).foolbox
    images, labels = correct(model, arguments)
    names = [n for n in ATTACKS if not arguments.only or matches(n, arguments.only.split("|"))]
    results = {}
    for name in names:
        file = arguments.out / (name.replace(" ", "_").replace("&", "and") + ".json")
        if not file.exists():
            result = measure(model, ATTACKS[name](), images, labels, arguments)
            partial = file.with_suffix(".part")
            partial.write_text(json.dumps(result))
            partial.replace(file)
        results[name] = json.loads(file.read_text())
        if (known := len(results[name]["distances"])) != len(images):
            parser.error(f"{file} is of {known} images, not {len(images)}: choose another --out")
        print(name, f"{results[name]['seconds']:.0f} s", flush=True)
    print(f"\n{len(images)} correctly classified images\n")
    print(table(results))
    curves(results, arguments.out / "curves.png")


def matches(name: str, parts: list[str]) -> bool:
    """Whether one of the parts is in the name, or ``=name`` is exactly it."""
    return any(name == part[1:] if part.startswith("=") else part in name for part in parts)


def correct(model: Any, arguments: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """The images that the model classifies correctly, in [0, 1], and their labels."""
    data = load_data(Spec.of(arguments.data, "data"))
    count = min(arguments.count or len(data), len(data))
    images = torch.from_numpy(np.array(data.images(0, count))).float().div(255)
    images = images.to(arguments.device)
    labels = torch.as_tensor(np.asarray(data.labels[:count])).long().to(arguments.device)
    right = [
        model(x).argmax(dim=-1) == y
        for x, y in zip(images.split(arguments.batch), labels.split(arguments.batch), strict=True)
    ]
    return images[torch.cat(right)], labels[torch.cat(right)]


def measure(
    model: Any, attack: Any, images: torch.Tensor, labels: torch.Tensor, arguments: Any
) -> dict[str, Any]:
    """What an attack finds on all images, batch by batch."""
    start = time.process_time()
    distances: list[float | None] = []
    scores: list[float] = []
    steps: list[Any] = []
    passes = [0, 0]
    for x, y in zip(images.split(arguments.batch), labels.split(arguments.batch), strict=True):
        counting = CountingModel(model, x, y)
        raw, _, _ = attack(counting, x, y, epsilons=None)
        levels = (ep.astensor(raw).raw * 255).round()
        fooled = model(levels / 255).argmax(dim=-1) != y
        length = (levels - (x * 255).round()).flatten(1).norm(dim=1) / 255
        pairs = zip(length.tolist(), fooled.tolist(), strict=True)
        distances += [d if ok else None for d, ok in pairs]
        steps += counting.curves()
        passes = [max(so_far, *n) for so_far, n in zip(passes, counting.counts(), strict=True)]
        if arguments.mad:
            both = [
                t.movedim(1, -1).to(torch.uint8).cpu().numpy() for t in ((x * 255).round(), levels)
            ]
            scores += [float(s) for s in np.atleast_1d(mad(*both).score)]
    return {
        "distances": distances,
        "forward": passes[0],
        "backward": passes[1],
        "curves": steps,
        "mad": scores,
        "seconds": time.process_time() - start,
    }


def table(results: dict[str, Any]) -> str:
    """A Markdown table: gradients, further forwards, success, distances and paired comparison."""
    rows = [
        f"| attack | gradients / forwards | P | mean | median | closer than {REFERENCE} | "
        "paired ratio | MAD |",
        "|---|---|---|---|---|---|---|---|",
    ]
    reference = results.get(REFERENCE)
    for name, result in results.items():
        d = np.array([np.inf if v is None else v for v in result["distances"]])
        found = d[np.isfinite(d)]
        # Foolbox judges what an attack returns once more.
        further = result["forward"] - result["backward"] - 1
        wins = ratio = "-"
        if reference is not None and name != REFERENCE:
            r = np.array([np.inf if v is None else v for v in reference["distances"]])
            wins = f"{np.sum(d < r * (1 - 1e-6))} of {len(d)}"
            both = np.isfinite(d) & np.isfinite(r)
            logs = np.log(d[both] / r[both])
            error = logs.std(ddof=1) / np.sqrt(len(logs))
            ratio = f"{np.exp(logs.mean()):.3f} ± {np.exp(logs.mean()) * error:.3f}"
        score = f"{statistics.mean(result['mad']):.3f}" if result["mad"] else "-"
        rows.append(
            f"| {name} | {result['backward']} / {further} | {len(found) / len(d):.2f} | "
            f"{found.mean():.4f} | {np.median(d):.4f} | {wins} | {ratio} | {score} |"
        )
    return "\n".join(rows)


def curves(results: dict[str, Any], file: Path) -> None:
    """Draw the mean distance of the best digital adversarial over the passes spent."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4))
    axes.set_prop_cycle(color=plt.get_cmap("tab20").colors)
    for name, result in results.items():
        if not matches(name, list(DIGITAL)):
            continue
        grid = np.arange(1, result["forward"] + result["backward"] + 1)
        best = np.full((len(result["curves"]), len(grid)), np.nan)
        for row, (queries, distances) in zip(best, result["curves"], strict=True):
            for query, distance in zip(queries, distances, strict=True):
                row[grid >= query] = distance
        # Only where all images have been fooled is a mean a fair one.
        everywhere = ~np.isnan(best).any(axis=0)
        if not everywhere.any():
            continue
        axes.plot(grid[everywhere], best[:, everywhere].mean(axis=0), label=name)
    axes.set(xscale="log", yscale="log", xlabel="forward and backward passes per image")
    axes.set_ylabel("mean L2 distance of the closest\n8-bit adversarial so far")
    axes.grid(which="both", alpha=0.3)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def explain(file: Path) -> None:
    """Draw what one element costs for what it gains, and where rounding cuts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    c = 1.0
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for h, colour in ((0.4, "C0"), (1.2, "C1"), (2.7, "C2")):
        level = np.arange(5)
        lagrangian = level**2 - 2 * c * h * level
        left.plot(level, lagrangian, "o-", color=colour, label=f"c h = {h}")
        best = round(c * h)
        left.plot(best, lagrangian[best], "o", color=colour, markersize=13, fillstyle="none")
    left.set(xlabel="level d", ylabel="d² - 2 c h d", xticks=range(5), ylim=(-8.5, 14))
    left.set_title("each element: the minimum is at round(c h)", fontsize=9)
    left.legend(fontsize=8)
    h = np.linspace(0, 3, 601)
    for d in range(1, 4):
        right.plot(
            h[1:], (2 * d - 1) / h[1:], color=f"C{d + 2}", label=f"step {d}: {2 * d - 1} / h"
        )
        right.axvline((d - 0.5) / c, color=f"C{d + 2}", linestyle=":", linewidth=1)
    right.axhline(2 * c, color="black", linewidth=1)
    right.text(0.05, 2 * c + 0.12, "price 2 c", fontsize=8)
    right.set(xlabel="h, what a level gains", ylabel="squared length paid per gain", ylim=(0, 8))
    right.set_title("a step is taken where it costs less than the price", fontsize=9)
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
