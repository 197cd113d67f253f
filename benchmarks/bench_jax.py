"""What a step takes on JAX: Foolbox's DDN, its gradient compiled, and whole steps of our attacks.

python benchmarks/bench_jax.py [--repeats 5] [--batch 8] [--clock cpu]

All on the same networks. Foolbox runs JAX without compiling anything; our gradient step, a forward
and a backward pass with the verdict, is compiled once a run. The time of a step is that of a run of
50 steps less one of 10, over 40, so that compilation cancels out; it has a column of its own, the
time of a run's first step. Medians over repeats, interleaved. With --clock cpu the time of the
process counts instead of the wall's, which other processes on the machine disturb.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import eagerpy as ep
import foolbox
import jax
import jax.numpy as jnp
import numpy as np
from allocator import keep_memory

from foolart.adapters.foolbox import BoundaryProjectionAttack, QuantizedDDNAttack
from foolart.adapters.foolbox.problem import Problem
from foolart.plugins.gradients import value_and_gradient

GOAL = 5.0
FEW, MANY = 10, 50
ATTACKS: dict[str, Callable[[int], Any]] = {
    "Foolbox's DDN": lambda steps: foolbox.attacks.DDNAttack(steps=steps),
    "DDN, rounding": lambda steps: QuantizedDDNAttack(steps=steps),
    "DDN, Q_delta": lambda steps: QuantizedDDNAttack(steps=steps, quantization="lagrangian"),
    "BP": lambda steps: BoundaryProjectionAttack(steps=steps),
}


def perceptron() -> tuple[Callable[[Any], Any], tuple[int, ...]]:
    """Two layers, for images of 32x32."""
    rng = np.random.default_rng(0)
    first = jnp.asarray(rng.normal(0, 1 / 55, (3072, 64)), jnp.float32)
    second = jnp.asarray(rng.normal(0, 1 / 8, (64, 40)), jnp.float32)
    return lambda x: jnp.tanh(4 * (x.reshape((len(x), -1)) - 0.5) @ first) @ second * 4, (3, 32, 32)


def residual(depth: int, width: int) -> tuple[Callable[[Any], Any], tuple[int, ...]]:
    """A small residual network, for images of 32x32."""
    rng = np.random.default_rng(0)
    kernels = []
    for i in range(depth):
        inputs = 3 if i == 0 else width
        scale = (2 / (9 * inputs)) ** 0.5
        kernels.append(jnp.asarray(rng.normal(0, scale, (width, inputs, 3, 3)), jnp.float32))
    top = jnp.asarray(rng.normal(0, 0.3, (width, 10)), jnp.float32)

    def network(x: Any) -> Any:
        for i, kernel in enumerate(kernels):
            stride = 2 if i in (0, depth // 3, 2 * depth // 3) else 1
            y = jax.nn.relu(jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME"))
            x = y + x if i and stride == 1 else y
        return x.mean((2, 3)) @ top

    return network, (3, 32, 32)


NETWORKS = {
    "perceptron, 2 layers": perceptron,
    "residual, 6 layers of 32": lambda: residual(6, 32),
    "residual, 18 layers of 32": lambda: residual(18, 32),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    given = parser.parse_args()
    clock = time.perf_counter if given.clock == "wall" else time.process_time
    print(
        f"JAX {jax.__version__}, Foolbox {foolbox.__version__}, batch {given.batch}, milliseconds"
    )
    print(f"{'network':28}{'step of':24}{'a step':>9}{'first':>9}{'DDN / it':>10}")
    for name, make in NETWORKS.items():
        network, shape = make()
        model = foolbox.JAXModel(network, bounds=(0, 1))
        levels = np.random.default_rng(1).integers(0, 256, (given.batch, *shape))
        x = jnp.asarray(levels / 255, jnp.float32)
        y = model(x).argmax(-1)
        steps: dict[str, list[float]] = {}
        first: dict[str, list[float]] = {}
        for _ in range(given.repeats):
            problem = Problem.of(model, ep.astensor(x), y)
            score, k = problem.score(problem.box(None)), ep.astensor(x)
            times = [clock()]
            for _ in range(1 + MANY):
                value_and_gradient(score, k)[1].raw.block_until_ready()
                times.append(clock())
            steps.setdefault("our gradient", []).append((times[-1] - times[1]) / MANY)
            first.setdefault("our gradient", []).append(times[1] - times[0])
            for label, attack in ATTACKS.items():
                took = []
                for count in (1, FEW, MANY):
                    start = clock()
                    attack(count)(model, x, y, epsilons=None)[0].block_until_ready()
                    took.append(clock() - start)
                steps.setdefault(label, []).append((took[2] - took[1]) / (MANY - FEW))
                first.setdefault(label, []).append(took[0])
        theirs = statistics.median(steps["Foolbox's DDN"])
        for label, seconds in steps.items():
            step, start = statistics.median(seconds), statistics.median(first[label])
            row = f"{name:28}{label:24}{1e3 * step:9.2f}{1e3 * start:9.1f}{theirs / step:9.1f}x"
            verdict = "reaches" if theirs / step >= GOAL else "MISSES"
            print(row + f"  ({verdict} {GOAL:g}x)" * (label == "our gradient"))


if __name__ == "__main__":
    keep_memory()
    main()
