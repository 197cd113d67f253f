"""What the evaluation harness costs on top of the attacks that it runs.

python benchmarks/bench_harness.py overhead [--attack "ddn(steps=20)"] [--images 10] [--repeats 5]
python benchmarks/bench_harness.py resume [--units 10000]
python benchmarks/bench_harness.py workers [--images 120] [--repeats 3]
python benchmarks/bench_harness.py memory

overhead: seconds of CPU and of the wall clock for an attack on EfficientNet-Lite0, called by itself
    with one forward pass for each variant that is judged, and inside a work unit (counting, anytime
    curve, judging raw and rounded images, PNGs, bookkeeping); interleaved pairs, medians, and the
    share of each part.
resume: seconds to go on with a run of so many finished units.
workers: seconds with one worker process and with two, single-threaded, start-up included and not.
memory: peak resident memory against the number of images.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import torch
from allocator import keep_memory

from foolart.evaluation import Results, engine, evaluate
from foolart.evaluation.catalogue import build_attack
from foolart.evaluation.compute import Bench
from foolart.evaluation.data import load_data
from foolart.evaluation.models import load_model
from foolart.evaluation.plan import Plan
from foolart.evaluation.planning import make_plan
from foolart.evaluation.results import PLAN
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.specs import Spec
from foolart.evaluation.store import Store


def clock() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def spent(since: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = clock()
    return wall - since[0], cpu - since[1]


def overhead(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    data = f"foolbox:imagenet(count={options.images})"
    scenario = Scenario(
        attacks=[options.attack],
        data=[data],
        variants=["raw", "rounded"],
        compute_batch=options.images,
        threads=options.threads,
    )
    part = load_data(Spec.of(data, "data set"))
    model = load_model(Spec.of("efficientnet-lite0", "model"))
    attack = build_attack(Spec.of(options.attack, "attack"))
    x = torch.from_numpy(part.images(0, len(part))).float() / 255
    y = torch.from_numpy(part.labels)
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(scenario)
        store = Store(Path(folder))
        bench = Bench(scenario, store, [part], lambda m, d: model, plan.checks)
        for _ in range(options.repeats + 1):
            start = clock()
            criterion = foolbox.criteria.Misclassification(y)
            attack.attack(model.foolbox, x, criterion, epsilons=attack.epsilon)
            for _ in scenario.variants:
                model.foolbox(x)
            bare = spent(start)
            start = clock()
            body = bench.compute(plan.units[0])
            store.write_unit(plan.units[0].name, body)
            unit = spent(start)
            rows.append(
                {
                    "bare, wall": bare[0],
                    "unit, wall": unit[0],
                    "bare, CPU": bare[1],
                    "unit, CPU": unit[1],
                    **{f"  {name}": seconds for name, seconds in body["seconds"].items()},
                }
            )
    rows = rows[1:]
    print(f"{options.attack}, {options.images} images, {options.threads} threads")
    for name in rows[0]:
        print(f"{name:14} {statistics.median(row[name] for row in rows):8.3f} s")
    for kind in ("wall", "CPU"):
        ratios = [row[f"unit, {kind}"] / row[f"bare, {kind}"] for row in rows]
        print(f"unit / bare, {kind}: {statistics.median(ratios):.4f}")


def small(folder: Path, images: int, **changes: Any) -> Scenario:
    """A scenario around a small network and random images."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, changes.pop("width", 8), 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.LazyLinear(10),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)
    labels = net(torch.from_numpy(pixels).float() / 255).argmax(1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.zeros(2, 3, 32, 32)).save(str(folder / "net.pt"))
    np.savez(folder / "data.npz", images=pixels, labels=labels)
    return Scenario(
        **{
            "models": [str(folder / "net.pt")],
            "data": [str(folder / "data.npz")],
            "attacks": ["ddn(steps=20)"],
            "variants": ["raw", "rounded"],
            "threads": 1,
            "images": "none",
            **changes,
        }
    )


def resume(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario = small(folder, 20).with_(batch_size=10, attacks=["ddn(steps=2)"])
        evaluate(scenario, folder / "r", report=False)
        store = Store(folder / "r")
        plan = store.read_json(PLAN)
        body = store.read_unit(plan["units"][0][0])
        assert body is not None
        units = []
        for k in range(options.units):
            body["unit"] = f"{k:024d}"
            body["columns"]["image"] = [10 * k + row for row in body["columns"]["row"]]
            store.write_unit(body["unit"], body)
            units.append([body["unit"], 0, 10 * k, 10 * k + 10, *plan["units"][0][4:]])
        store.write_json(PLAN, {**plan, "units": units})
        read = Plan.from_json(store.read_json(PLAN))
        start = clock()
        found = engine.finished(store, read)
        print(f"{len(found)} units checked in {spent(start)[0]:.2f} s")
        start = clock()
        results = Results.load(folder / "r")
        print(f"{len(results.records)} records read in {spent(start)[0]:.2f} s more")


def workers(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario = small(folder, options.images, width=96, attacks=["ddn(steps=100)"])
        walls: dict[int, list[float]] = {1: [], 2: []}
        computing: dict[int, list[float]] = {1: [], 2: []}
        for repeat in range(options.repeats):
            for count in walls:
                out = folder / f"{repeat}-{count}"
                began: list[float] = []

                def progress(done: int, total: int, what: str, began: list[float] = began) -> None:
                    if done:
                        began.append(time.perf_counter())

                start = time.perf_counter()
                run = scenario.with_(workers=count, batch_size=10)
                evaluate(run, out, progress, report=False)
                walls[count].append(time.perf_counter() - start)
                # From the first finished unit to the last: without the start of Python and PyTorch.
                computing[count].append(began[-1] - began[0])
        for label, found in (("all", walls), ("from the first result on", computing)):
            one, two = (statistics.median(found[count]) for count in (1, 2))
            print(f"{label}: 1 worker {one:.1f} s, 2 workers {two:.1f} s, ratio {one / two:.2f}")


def memory(options: argparse.Namespace) -> None:
    code = (
        "from pathlib import Path; from foolart.evaluation import evaluate, Scenario\n"
        "f = Path({folder!r}); s = Scenario.load(f / 's.toml')\n"
        "evaluate(s, f / 'r', report=False)\n"
        "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024)\n"
    )
    for images in (100, 1000, 4000):
        with tempfile.TemporaryDirectory() as name:
            scenario = small(Path(name), images, attacks=["ddn(steps=1)"])
            (Path(name) / "s.toml").write_text(scenario.to_toml())
            size = (Path(name) / "data.npz").stat().st_size / 2**20
            done = subprocess.run(
                [sys.executable, "-c", code.format(folder=name)],
                capture_output=True,
                text=True,
                check=True,
            )
            print(f"{images:5} images of {size:6.1f} MiB: {float(done.stdout):7.1f} MiB resident")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["overhead", "resume", "workers", "memory"])
    parser.add_argument("--attack", default="ddn(steps=20)")
    parser.add_argument("--images", type=int, help="10 for overhead, 120 for workers")
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.images = options.images or {"workers": 120}.get(options.what, 10)
    keep_memory()
    warnings.simplefilter("ignore")
    {"overhead": overhead, "resume": resume, "workers": workers, "memory": memory}[options.what](
        options
    )


if __name__ == "__main__":
    main()
