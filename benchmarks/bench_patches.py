"""What patch replacement costs, against the targets it was built for.

python benchmarks/bench_patches.py [--data images.npz] [--repeats 7] [--clock cpu] [--only search]

Images are 224 x 224 x 3 in batches of 20: Foolbox's samples, or the array "images" of an npz file.
Times are medians over interleaved repeats, a ratio the median of the ratios of its pairs. On a busy
machine, set OMP_NUM_THREADS=1 and measure CPU time (--clock cpu): threads that wait for each other
on cores that others use say nothing.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import foolbox
import numpy as np
import torch
from PIL import Image

from foolart.plugins import nearest
from foolart.plugins.codebook import E8Lattice, ProductQuantizer
from foolart.plugins.patch_grid import patches_of
from foolart.plugins.patches import PatchReplacer

BATCH, K, LARGE_K = 20, 3927, 235_671


def images(data: Path | None) -> torch.Tensor:
    """Forty images (N, 3, 224, 224) in [0, 1]: a batch to defend, and others to learn from."""
    if data is not None:
        with np.load(data) as arrays:
            array = arrays["images"][: 5 * BATCH]
    else:
        folder = Path(foolbox.__file__).parent / "data"
        files = sorted(folder.glob("imagenet_[0-9][0-9]_*"))
        own = [np.asarray(Image.open(f).convert("RGB").resize((224, 224))) for f in files]
        # Mirrored samples to learn from: enough for time, not for accuracy.
        array = np.stack(own + [image[:, ::-1] for image in own])
    return torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2).float() / 255


clock = time.perf_counter


def seconds(job: Callable[[], Any]) -> float:
    start = clock()
    job()
    return clock() - start


def compare(jobs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Times of every job, taken in turns after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for round_ in range(repeats + 1):
        for name, job in jobs.items():
            taken = seconds(job)
            if round_:
                times[name].append(taken)
    return times


def ratio(times: dict[str, list[float]], a: str, b: str) -> float:
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


def line(what: str, value: str, target: str) -> None:
    print(f"{what:<66} {value:>12}   {target}", flush=True)


def without_faiss(job: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        found = nearest.has_faiss
        nearest.has_faiss = lambda: False  # type: ignore[assignment]
        try:
            job()
        finally:
            nearest.has_faiss = found

    return run


def fused(points: torch.Tensor, codewords: torch.Tensor) -> Callable[[], Any]:
    """faiss's flat search on all points at once, by its fastest kernel."""
    index = faiss.IndexFlatL2(codewords.shape[1])
    index.add(codewords.numpy())

    def run() -> None:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 1
        index.search(points.numpy(), 1)
        faiss.cvar.distance_compute_blas_threshold = before

    return run


def search(found: torch.Tensor, arguments: argparse.Namespace) -> None:
    x, repeats = found[:BATCH], arguments.repeats
    # Sampled, not learnt: the search takes as long.
    book = ProductQuantizer.fit(found[BATCH:], K, method="sample")
    for stride in (3, 1):
        replacer = PatchReplacer(book, stride=stride)
        points = [p.contiguous() for p in patches_of(replacer._pad(x), book.shape, (stride,) * 2)]
        flat = [fused(p, c) for p, c in zip(points, book.codewords, strict=True)]
        own = [
            lambda p=p, c=c: nearest.nearest(p, c)
            for p, c in zip(points, book.codewords, strict=True)
        ]
        jobs: dict[str, Callable[[], Any]] = {
            "faiss": lambda flat=flat: [f() for f in flat],
            "ours": lambda own=own: [f() for f in own],
            "all": lambda replacer=replacer: replacer(x),
        }
        if stride == 3:
            jobs["torch"] = without_faiss(jobs["ours"])
        times = compare(jobs, repeats if stride == 3 else min(3, repeats))
        ms = {name: statistics.median(t) * 1000 / len(x) for name, t in times.items()}
        around = statistics.median(
            (a - b) * 1000 / len(x) for a, b in zip(times["all"], times["ours"], strict=True)
        )
        print(f"K = {K}, 3x3x1, stride {stride}: milliseconds an image")
        line("  faiss, fused", f"{ms['faiss']:.2f}", "")
        line("  our search", f"{ms['ours']:.2f}", "")
        line("    ratio to faiss", f"{ratio(times, 'ours', 'faiss'):.2f}", "at most 1.1")
        if "torch" in ms:
            line("  our search without faiss", f"{ms['torch']:.2f}", "")
            line("    ratio to faiss", f"{ratio(times, 'torch', 'faiss'):.2f}", "at most 3")
        line("  everything around the search", f"{around:.2f}", "at most 5" if stride == 3 else "")


def large(found: torch.Tensor, arguments: argparse.Namespace) -> None:
    # Features after a ReLU, four channels: brightness and detail as patches have them.
    generator = torch.Generator().manual_seed(0)
    level = torch.rand(LARGE_K + 1444, 1, generator=generator) * 6
    values = (level + torch.randn(LARGE_K + 1444, 36, generator=generator)).clamp(0, 6)
    codewords, points = values[:LARGE_K].contiguous(), values[LARGE_K:].contiguous()
    index = faiss.IndexFlatL2(36)
    index.add(codewords.numpy())
    jobs: dict[str, Callable[[], Any]] = {
        "faiss": lambda: index.search(points.numpy(), 1),
        "ours": lambda: nearest.nearest(points, codewords),
    }
    jobs["torch"] = without_faiss(jobs["ours"])
    times = compare(jobs, min(3, arguments.repeats))
    print(f"K = {LARGE_K}, 36 dimensions, one slice of one image (1444 patches): milliseconds")
    for name, target in (("faiss", ""), ("ours", "at most 0.33"), ("torch", "")):
        value = f"{statistics.median(times[name]) * 1000:.0f}"
        share = f"{ratio(times, name, 'faiss'):.2f}" if name != "faiss" else ""
        line(f"  {name if name != 'torch' else 'ours without faiss'}", value, "")
        if share:
            line("    ratio to faiss as it comes", share, target)


def lattice(found: torch.Tensor, arguments: argparse.Namespace) -> None:
    from foolart.evaluation.models import efficientnet_lite0

    network = efficientnet_lite0().module.eval()
    batch = found[:4]
    replacers = {
        "image, 2x4 blocks": PatchReplacer(E8Lattice(0.1, (1, 2, 4))),
        "first layer, 8 channels": PatchReplacer(E8Lattice(0.5)),
    }
    with torch.no_grad():
        maps = {"image, 2x4 blocks": batch, "first layer, 8 channels": network._conv_stem(batch)}
        jobs: dict[str, Callable[[], Any]] = {"forward": lambda: network(batch)}
        for name, replacer in replacers.items():
            jobs[name] = lambda r=replacer, m=maps[name]: r(m)
        times = compare(jobs, arguments.repeats)
    print("E8 lattice against the forward pass of EfficientNet-Lite0: milliseconds an image")
    line("  forward", f"{statistics.median(times['forward']) * 250:.1f}", "")
    for name in replacers:
        line(f"  {name}", f"{statistics.median(times[name]) * 250:.1f}", "")
        defended = 1 + ratio(times, name, "forward")
        line("    defended forward to undefended", f"{defended:.2f}", "at most 1.5")


def memory(found: torch.Tensor, arguments: argparse.Namespace) -> None:
    """The peak of a process that defends a batch, less what it held before it did."""
    print("Peak memory of a batch of 20 above what was there: megabytes")
    for stride, kind in ((3, "faiss"), (1, "faiss"), (3, "torch"), (3, "large")):
        command = [sys.executable, __file__, "--peak", str(stride), kind]
        if arguments.data is not None:
            command += ["--data", str(arguments.data)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        name = {"large": f"K = {LARGE_K}, 3x3x4 on 32 channels, 4 images"}.get(
            kind, f"K = {K}, stride {stride}, by {kind}"
        )
        line(f"  {name}", printed.strip(), "at most 200")


def peak(stride: int, kind: str, data: Path | None) -> None:
    if kind == "torch":
        nearest.has_faiss = lambda: False  # type: ignore[assignment]
    if kind == "large":
        x = torch.rand(4, 32, 112, 112)
        book = ProductQuantizer(torch.rand(1, LARGE_K, 36), (4, 3, 3), universal=True)
    else:
        x = images(data)[:BATCH]
        book = ProductQuantizer(torch.rand(3, K, 9), (1, 3, 3))
    # Load and warm up what any first use does.
    PatchReplacer(ProductQuantizer(book.codewords[:, :500], book.shape, universal=book.universal))(
        x[:1, :, :9, :9]
    )
    # Linux only: forget the peak so far, such as that of reading the images.
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    PatchReplacer(book, stride=stride)(x)
    print(f"{(kilobytes('VmHWM') - before) / 1024:.0f}")


def kilobytes(what: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0])


def training(found: torch.Tensor, arguments: argparse.Namespace) -> None:
    learn = found[BATCH:]
    taken = seconds(lambda: ProductQuantizer.fit(learn, K, points=288_000, stride=1))
    line(f"Training K = {K} on 288,000 patches a channel: seconds", f"{taken:.1f}", "under 60")


PARTS: dict[str, Callable[[torch.Tensor, argparse.Namespace], None]] = {
    "training": training,
    "search": search,
    "large": large,
    "lattice": lattice,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak(int(arguments.peak[0]), arguments.peak[1], arguments.data)
        return
    if arguments.clock == "cpu":
        global clock
        clock = time.process_time
    found = images(arguments.data)
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, faiss {faiss.__version__}"
    )
    for part in arguments.only:
        PARTS[part](found, arguments)


if __name__ == "__main__":
    main()
