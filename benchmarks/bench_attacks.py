"""What attacks cost on top of the network: their time over that of their own passes through it.

python benchmarks/bench_attacks.py [--repeats 5] [--threads 2] [--device cpu] [--only TEXT]

An attack runs, and then the bare passes that it made: as many forwards and backwards (a gradient in
the inputs by torch.autograd.grad) and as many forwards alone. The table gives medians over repeats
of these pairs, and the ratio is the median of the pairs' ratios. The last column is the peak memory
beyond that of a bare forward and backward, in tensors of the size of the images. With --clock cpu
the time of the process counts instead of the wall's, which other processes on the machine disturb.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import eagerpy as ep
import foolbox
import torch
from allocator import keep_memory
from foolbox.attacks import L2FastGradientAttack

from foolart.adapters.foolbox import (
    BoundaryProjectionAttack,
    IntegerMinimumNormAttack,
    Quantized,
    QuantizedDDNAttack,
)
from foolart.evaluation.memory import peak_memory
from foolart.evaluation.models import load_model
from foolart.evaluation.specs import Spec

# A name, the attack, the epsilon to call it with, and the share of the bare passes it may take at
# batch 20 and at batch 1 on EfficientNet-Lite0, and on ResNet-50. Q_lambda is measured around an
# attack of one gradient, which is part of both sides.
ATTACKS: list[tuple[str, Callable[[int], Any], float | None, tuple[float, float, float]]] = [
    (
        "DDN, rounding",
        lambda steps: QuantizedDDNAttack(steps=steps),
        None,
        (1.12, 1.20, 1.05),
    ),
    (
        "DDN, Q_delta",
        lambda steps: QuantizedDDNAttack(steps=steps, quantization="lagrangian"),
        None,
        (1.12, 1.20, 1.05),
    ),
    (
        "BP",
        lambda steps: BoundaryProjectionAttack(steps=steps),
        None,
        (1.12, 1.20, 1.05),
    ),
    (
        "Integer",
        lambda steps: IntegerMinimumNormAttack(steps=steps, candidates=min(3, steps)),
        None,
        (1.20, 1.20, 1.20),
    ),
    (
        "Q_lambda",
        lambda steps: Quantized(L2FastGradientAttack()),
        2.0,
        (1.08, 1.08, 1.08),
    ),
]


class Counting(foolbox.models.Model):
    """A model that counts its forwards: those with a gradient, and those without."""

    def __init__(self, model: Any):
        self.model = model
        self.passes = {True: 0, False: 0}

    @property
    def bounds(self) -> Any:
        return self.model.bounds

    def __call__(self, inputs: Any) -> Any:
        x, restore_type = ep.astensor_(inputs)
        self.passes[x.raw.requires_grad] += 1
        return restore_type(self.model(x))


class ResNet50(torch.nn.Module):
    """The architecture of He et al. (2016), randomly initialised: its cost is what counts."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = [
            convolution(3, 64, 7, 2),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(3, 2, 1),
        ]
        channels = 64
        for width, blocks, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
            for i in range(blocks):
                layers.append(Bottleneck(channels, width, stride if i == 0 else 1))
                channels = 4 * width
        layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(2048, 1000)]
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Bottleneck(torch.nn.Module):
    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.residual = torch.nn.Sequential(
            convolution(channels, width, 1, 1),
            torch.nn.ReLU(),
            convolution(width, width, 3, stride),
            torch.nn.ReLU(),
            convolution(width, 4 * width, 1, 1),
        )
        same = channels == 4 * width and stride == 1
        shortcut = torch.nn.Identity() if same else convolution(channels, 4 * width, 1, stride)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


def convolution(channels: int, width: int, kernel: int, stride: int) -> torch.nn.Module:
    layer = torch.nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
    return torch.nn.Sequential(layer, torch.nn.BatchNorm2d(width))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--only", help="lines whose network, batch or attack contains this")
    arguments = parser.parse_args()
    keep_memory()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    lite = load_model(Spec.of("efficientnet-lite0", "model"), device).foolbox
    images, labels = foolbox.samples(lite, dataset="imagenet", batchsize=20)
    right = lite(images).argmax(dim=1) == labels
    one = slice(int(right.nonzero()[0]), int(right.nonzero()[0]) + 1)

    torch.manual_seed(0)
    network = ResNet50().eval().requires_grad_(False)
    resnet = foolbox.PyTorchModel(network, bounds=(0, 1), device=device)
    few = images[:2] if device.type == "cpu" else images
    cases = [
        ("EfficientNet-Lite0, batch 20", lite, images, labels),
        ("EfficientNet-Lite0, batch 1", lite, images[one], labels[one]),
        (f"ResNet-50, batch {len(few)}", resnet, few, resnet(few).argmax(dim=1)),
    ]
    print(f"torch {torch.__version__}, {arguments.threads} threads, {device}", end="")
    print(f", {arguments.steps} steps, {arguments.clock} clock\n")
    print(
        f"{'':<30}{'attack':<16}{'attack s':>9}{'passes s':>9}{'ratio':>7}{'goal':>6}{'memory':>8}"
    )
    for column, (case, model, x, y) in enumerate(cases):
        for name, make, epsilon, goals in ATTACKS:
            if arguments.only and arguments.only not in f"{case}, {name}":
                continue
            attack = make(arguments.steps)

            def run(model: Any = model, attack: Any = attack, epsilon: Any = epsilon) -> None:
                attack(model, x, y, epsilons=epsilon)  # noqa: B023

            counting = Counting(model)
            run(counting)
            backwards, forwards = counting.passes[True], counting.passes[False]

            def bare(model: Any = model, b: int = backwards, f: int = forwards) -> None:
                passes(model, x, y, b, f)  # noqa: B023

            bare()
            pairs = [
                [seconds(f, device, arguments.clock) for f in (run, bare)]
                for _ in range(arguments.repeats)
            ]
            ratio = statistics.median(a / b for a, b in pairs)
            ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
            memory = (peak(run, device) - peak(bare, device)) / (x.numel() * x.element_size())
            print(f"{case:<30}{name:<16}{ours:>9.3f}{theirs:>9.3f}", end="")
            print(f"{ratio:>7.3f}{goals[column]:>6.2f}{memory:>8.1f}", flush=True)


def passes(model: Any, x: torch.Tensor, y: torch.Tensor, backwards: int, forwards: int) -> None:
    for _ in range(backwards):
        inputs = x.clone().requires_grad_()
        loss = model(inputs).gather(1, y[:, None]).sum()
        torch.autograd.grad(loss, inputs)
    for _ in range(forwards):
        model(x)


def seconds(function: Callable[[], None], device: torch.device, clock: str) -> float:
    now = time.process_time if clock == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = now()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return now() - start


def peak(function: Callable[[], None], device: torch.device) -> int:
    if device.type == "cuda":
        with peak_memory(device) as result:
            function()
        return result.bytes
    # The process's resident memory hides what the allocator keeps: add up the tensors themselves.
    with torch.profiler.profile(profile_memory=True) as profile:
        function()
    now = largest = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            largest = max(largest, now)
    return largest


if __name__ == "__main__":
    main()
