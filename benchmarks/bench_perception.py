"""Milliseconds per 224x224 image of Most Apparent Distortion and of magnification.

python benchmarks/bench_perception.py [--images 8] [--repeats 5] [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import foolbox
import numpy as np
import torch
from PIL import Image

from foolart.plugins.mad import mad
from foolart.plugins.magnification import magnify


def samples(count: int) -> np.ndarray:
    files = sorted((Path(foolbox.__file__).parent / "data").glob("imagenet_*.jpg"))
    images = [np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files]
    return np.stack([images[i % len(images)] for i in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    reference = samples(arguments.images)
    noise = np.random.default_rng(0).normal(0, 5, reference.shape)
    distorted = np.clip(np.rint(reference + noise), 0, 255).astype(np.uint8)
    numpy_inputs = np.ascontiguousarray(reference.transpose(0, 3, 1, 2), dtype=np.float32) / 255
    torch_inputs = torch.from_numpy(numpy_inputs).to(arguments.device)

    def on_device() -> None:
        magnify(torch_inputs)
        if torch_inputs.is_cuda:
            torch.cuda.synchronize()

    jobs: dict[str, Callable[[], object]] = {
        "MAD, NumPy": lambda: mad(reference, distorted),
        "MAD, NumPy, one by one": lambda: [
            mad(*pair) for pair in zip(reference, distorted, strict=True)
        ],
        "magnify, NumPy": lambda: magnify(numpy_inputs),
        f"magnify, PyTorch on {arguments.device}": on_device,
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(arguments.repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(1000 * (time.perf_counter() - start) / arguments.images)
    print(f"ms per image, median of {arguments.repeats}, {torch.get_num_threads()} threads")
    for name, values in times.items():
        print(f"{name:32s} {statistics.median(values):8.1f}")


if __name__ == "__main__":
    main()
