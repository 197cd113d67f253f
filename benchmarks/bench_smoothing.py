"""What guided smoothing costs: a solve, its factor, and a step of sC&W against one of C&W.

python benchmarks/bench_smoothing.py [--repeats 9] [--threads 2] [--device cpu] [--only solve|step]

The solver's table gives medians over repeats, and the relative error against SciPy's sparse direct
solver in float64. The table of steps compares attacks with the same number of gradients on the same
images: Foolbox's L2CarliniWagnerAttack, our C&W without smoothing (an equally lean loop), and sC&W.
A step's time is the difference of a long run and a short one, so that the factor and the first
forward pass, which come once a batch, do not count; the ratios are medians over interleaved runs.
The parameters of the networks are frozen: Foolbox's attack would compute their gradients, too.
With one thread on the CPU, time is that of the processor: other programs do not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import foolbox
import numpy as np
import scipy.sparse as sparse
import torch
from allocator import keep_memory
from scipy.sparse.linalg import splu

from foolart.adapters.foolbox import SmoothCarliniWagnerAttack
from foolart.evaluation.models import load_model
from foolart.evaluation.specs import Spec
from foolart.plugins.smoothing import GuidedSmoothing

SHORT, LONG = 2, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=["solve", "step"])
    arguments = parser.parse_args()
    keep_memory()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    lite = load_model(Spec.of("efficientnet-lite0", "model"), device).foolbox
    images, labels = foolbox.samples(lite, dataset="imagenet", batchsize=20)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {device}")
    if arguments.only != "step":
        solves(images, arguments.repeats, device)
    if arguments.only != "solve":
        print(f"\n{'a step of':<32}{'Foolbox C&W':>13}{'lean C&W':>10}{'sC&W':>10}", end="")
        print(f"{'sC&W / Foolbox':>17}{'sC&W / lean':>13}")
        right = lite(images).argmax(dim=1) == labels
        first = int(right.nonzero()[0])
        steps("EfficientNet-Lite0, batch 20", lite, images, labels, arguments.repeats, 0.997)
        one = slice(first, first + 1)
        steps(
            "EfficientNet-Lite0, batch 1", lite, images[one], labels[one], arguments.repeats, 0.997
        )
        c4, digits = c4_on_digits(device)
        steps("C4, 28x28, batch 100", c4, digits, c4(digits).argmax(dim=1), arguments.repeats, 0.95)


def solves(images: torch.Tensor, repeats: int, device: torch.device) -> None:
    print(f"\n{'alpha .997, bandwidth .1':<32}{'factor s':>10}{'MB':>8}{'solve ms':>10}", end="")
    print(f"{'adjoint ms':>12}{'error':>10}   (per image)")
    small = torch.nn.functional.interpolate(images, (28, 28)).mean(dim=1, keepdim=True)
    cases = [
        ("224x224x3, batch 1", images[:1]),
        ("224x224x3, batch 20", images),
        ("28x28x1, batch 100", small.repeat(5, 1, 1, 1)),
    ]
    for name, x in cases:
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(device)
        count = len(x)
        factors = [seconds(partial(GuidedSmoothing, x), device) / count for _ in range(3)]
        smoothing = GuidedSmoothing(x)
        smoothing(z)
        pairs = [
            [seconds(partial(f, z), device) / count * 1e3 for f in (smoothing, smoothing.adjoint)]
            for _ in range(3 * repeats)
        ]
        forward, back = (statistics.median(column) for column in zip(*pairs, strict=True))
        r = exact(x[0], z[0])
        error = (smoothing(z)[0].cpu() - r).norm() / r.norm()
        print(
            f"{name:<32}{statistics.median(factors):>10.3f}{smoothing.nbytes / count / 1e6:>8.2f}"
            f"{forward:>10.2f}{back:>12.2f}{error:>10.1e}"
        )


def exact(image: torch.Tensor, z: torch.Tensor, alpha: float = 0.997) -> torch.Tensor:
    """The smoothed z of one image, from the definition."""
    channels, height, width = image.shape
    x = image.double().cpu().numpy().reshape(channels, -1)
    pixel = np.arange(height * width).reshape(height, width)
    i = np.concatenate([pixel[:-1].ravel(), pixel[:, :-1].ravel()])
    j = np.concatenate([pixel[1:].ravel(), pixel[:, 1:].ravel()])
    weights = sparse.coo_matrix(
        (np.exp(-np.abs(x[:, i] - x[:, j]).sum(axis=0) / 0.1), (i, j)), shape=(pixel.size,) * 2
    )
    weights = (weights + weights.T).tocsr()
    root = sparse.diags(1 / np.sqrt(np.asarray(weights.sum(axis=1)).ravel()))
    factor = splu((sparse.eye(pixel.size) - alpha * (root @ weights @ root)).tocsc())
    gain = factor.solve(np.ones(pixel.size))
    r = factor.solve(z.double().cpu().numpy().reshape(channels, -1).T) / gain[:, None]
    return torch.from_numpy(r.T.reshape(image.shape))


def steps(
    name: str, model: Any, x: torch.Tensor, labels: torch.Tensor, repeats: int, alpha: float
) -> None:
    def foolboxs(count: int) -> Any:
        return foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=1, steps=count, initial_const=100, abort_early=False
        )

    def ours(form: str) -> Callable[[int], Any]:
        def attack(count: int) -> Any:
            return SmoothCarliniWagnerAttack.imagenet(
                binary_search_steps=1, steps=count, smoothness=form, alpha=alpha
            )

        return attack

    attacks = [foolboxs, ours("free"), ours("constraint")]
    rows = []
    for _ in range(repeats):
        runs = [[partial(make(n).run, model, x, labels) for n in (SHORT, LONG)] for make in attacks]
        times = [[seconds(run, x.device) for run in pair] for pair in runs]
        rows.append([(long - short) / (LONG - SHORT) for short, long in times])
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    against = [statistics.median(row[2] / row[i] for row in rows) for i in (0, 1)]
    print(f"{name:<32}", end="")
    print("".join(f"{m * 1e3:>{w}.1f}ms" for m, w in zip(medians, (11, 8, 8), strict=True)), end="")
    print(f"{against[0]:>17.3f}{against[1]:>13.3f}", flush=True)


def c4_on_digits(device: torch.device) -> tuple[Any, torch.Tensor]:
    """The paper's C4, untrained, and images of the size of MNIST's: only time is looked at."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 64, 8, stride=2, padding=3),
        torch.nn.ReLU(),
        torch.nn.Conv2d(64, 128, 6, stride=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(128, 128, 5),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 10),
    )
    network.eval().requires_grad_(False)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device=device)
    return model, (torch.rand(100, 1, 28, 28) ** 4).to(device)


def seconds(function: Callable[[], object], device: torch.device) -> float:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        return time.process_time() if alone else time.perf_counter()

    start = now()
    function()
    return now() - start


if __name__ == "__main__":
    main()
