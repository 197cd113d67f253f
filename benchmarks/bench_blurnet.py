"""What BlurNet and the sticker attack cost, against the targets they were built for.

python benchmarks/bench_blurnet.py [--repeats 9] [--threads 2] [--clock cpu] [--only rp2|train|blur]

On LISA-CNN with fresh weights and random images, whose arithmetic takes the same time. Times are
medians over interleaved repeats, a ratio the median of the ratios of its pairs. With one thread,
--clock cpu measures the processor's time: other programs do not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from allocator import keep_memory

from foolart.adapters.training import Training, fit
from foolart.evaluation.blurnet_tables import sticker_for
from foolart.evaluation.train import prepare
from foolart.plugins.blurnet import Blur
from foolart.plugins.guard import guard

SHAPE = (3, 32, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--only", choices=["rp2", "train", "blur"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.clock} time")
    parts = {"blur": blurs, "train": training, "rp2": sticker}
    for name, part in parts.items():
        if arguments.only in (None, name):
            part(arguments.repeats, clock)


def blurs(repeats: int, clock: Callable[[], float]) -> None:
    """The forward pass with a blur after the first layer, against the same without."""
    network, _ = prepare("lisa-cnn", SHAPE, 18)
    network.eval()
    for batch, passes in ((1, 20), (20, 10), (100, 2)):
        x = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(0))
        networks = {"plain": network}
        networks |= {f"{k}x{k}": guard(network, {"conv1": Blur(k)}).eval() for k in (3, 5, 7)}

        def forward(module: Any, x: torch.Tensor = x, passes: int = passes) -> None:
            with torch.no_grad():
                for _ in range(passes):
                    module(x)

        times = compare({k: lambda n=n: forward(n) for k, n in networks.items()}, repeats, clock)
        plain = 1000 * statistics.median(times["plain"]) / passes
        for name in list(networks)[1:]:
            value = ratio(times[name], times["plain"])
            line(f"blur {name}, batch {batch} ({plain:.2f} ms without)", f"{value:.3f}", "<= 1.05")


def training(repeats: int, clock: Callable[[], float]) -> None:
    """An epoch of training with each penalty, against one without."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (500, *SHAPE), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 43, (500,), generator=generator)

    def epoch(name: str | None) -> None:
        network, layer = prepare("lisa-cnn", SHAPE, 43, penalty=name)
        fit(network, images, labels, Training(1, 100, penalty=name, layer=layer, alpha=1e-4))

    names = (None, "tv", "linf", "tikhonov")
    times = compare({str(name): lambda n=name: epoch(n) for name in names}, repeats, clock)
    for name in names[1:]:
        target = "<= 1.20" if name == "tv" else ""
        value = ratio(times[str(name)], times["None"])
        line(f"epoch of {name} training, batch 100", f"{value:.3f}", target)


def sticker(repeats: int, clock: Callable[[], float]) -> None:
    """RP2 with 300 steps on 20 images."""
    network, _ = prepare("lisa-cnn", SHAPE, 18)
    network.eval()
    x = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    start = clock()
    sticker_for(network, x, None, label=14, target=12, steps=300)
    line("RP2, 300 steps on 20 images", f"{clock() - start:.1f} s", "< 30 s")


def compare(
    jobs: dict[str, Callable[[], None]], repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Times of every job, taken in turns after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for round_ in range(repeats + 1):
        for name, job in jobs.items():
            start = clock()
            job()
            if round_:
                times[name].append(clock() - start)
    return times


def ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def line(what: str, value: str, target: str) -> None:
    print(f"{what:<60} {value:>10}   {target}", flush=True)


if __name__ == "__main__":
    keep_memory()
    main()
