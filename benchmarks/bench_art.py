"""What the bridge to ART costs, and what it saves against ART's own Carlini & Wagner attack.

python benchmarks/bench_art.py [--repeats 7] [--images 16] [--device cpu]

First table: an attack through ART (a PyTorchClassifier with a standardisation) against the same
attack through Foolbox on the same network, with the median of the ratios of interleaved pairs.
Second table: attacks on digits through ART, each with as many gradients as CarliniL2Method.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import foolbox
import numpy as np
import torch
from allocator import keep_memory
from art.attacks.evasion import CarliniL2Method
from art.estimators.classification import PyTorchClassifier
from sklearn.datasets import load_digits

from foolart.adapters import art as faces
from foolart.adapters.art import FoolboxAttack

MEAN, STD = 0.3, 0.4


def convolutional(channels: int, width: int, size: int) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, width, 3, padding=1),
        torch.nn.BatchNorm2d(width),
        torch.nn.ReLU(),
        torch.nn.Conv2d(width, width, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(width),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(width * (size // 2) ** 2, 10),
    )


def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    eight_bit = np.rint(images.reshape(-1, 1, 8, 8) / 16 * 255) / 255
    return eight_bit.astype(np.float32), labels


def train(network: torch.nn.Module, images: np.ndarray, labels: np.ndarray) -> None:
    x, y = (torch.from_numpy(images) - MEAN) / STD, torch.from_numpy(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
    for i in range(150):
        rows = torch.arange(i * 64, (i + 1) * 64) % len(x)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()


def classifier(network: torch.nn.Module, images: np.ndarray, device: str) -> PyTorchClassifier:
    return PyTorchClassifier(
        network,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=images.shape[1:],
        nb_classes=10,
        clip_values=(0.0, 1.0),
        preprocessing=(MEAN, STD),
        device_type="gpu" if device == "cuda" else "cpu",
    )


def seconds(job: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def overhead(repeats: int, device: str) -> None:
    print(f"{'network':<10}{'attack':<34}{'Foolbox':>10}{'ART':>10}{'ratio':>8}")
    images = digits()[0]
    large = np.random.default_rng(0).integers(0, 256, (16, 3, 32, 32)) / 255
    for name, network, x in (
        ("8x8", convolutional(1, 16, 8), images[:64]),
        ("32x32", convolutional(3, 64, 32), large.astype(np.float32)),
    ):
        network = network.to(device).eval()
        standardised = {"mean": [MEAN] * x.shape[1], "std": [STD] * x.shape[1], "axis": -3}
        model = foolbox.PyTorchModel(network, (0, 1), device=device, preprocessing=standardised)
        target = classifier(network, x, device)
        y = model(torch.from_numpy(x).to(device)).argmax(dim=1)
        cases = {
            "DDNAttack": FoolboxAttack(target, foolbox.attacks.DDNAttack(steps=20)),
            "LinfPGD": FoolboxAttack(target, foolbox.attacks.LinfPGD(steps=20), eps=8 / 255),
            "BoundaryProjectionAttack": faces.BoundaryProjection(target),
            "QuantizedDDNAttack": faces.QuantizedDDN(target, max_iter=20),
            "SmoothCarliniWagnerAttack": faces.SmoothCarliniWagner(
                target, binary_search_steps=2, max_iter=10
            ),
        }
        for label, face in cases.items():
            face.set_params(verbose=False, batch_size=len(x))
            attack, epsilon, labels = face.foolbox_attack(), face.eps, y.cpu().numpy()

            def through_foolbox(attack=attack, model=model, x=x, y=y, epsilon=epsilon) -> None:
                inputs = torch.from_numpy(x).to(device)
                attack(model, inputs, y, epsilons=epsilon)[1].cpu()

            def through_art(face=face, x=x, labels=labels) -> None:
                face.generate(x, labels)

            through_foolbox(), through_art()
            pairs = [(seconds(through_foolbox), seconds(through_art)) for _ in range(repeats)]
            ratio = statistics.median(b / a for a, b in pairs)
            a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{name:<10}{label:<34}{a:>9.3f}s{b:>9.3f}s{ratio:>8.2f}")


def against_carlini(width: int, count: int, device: str, repeats: int) -> None:
    x, y = digits()
    network = convolutional(1, width, 8)
    train(network, x, y)
    target = classifier(network.eval(), x, device)
    right = target.predict(x).argmax(axis=1) == y
    x, y = x[right][:count], y[right][:count]

    carlini = CarliniL2Method(target, batch_size=count, max_iter=10, verbose=False)
    gradients = 0
    loss_gradient = carlini._loss_gradient

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal gradients
        gradients += 1
        return loss_gradient(*arguments, **named)

    carlini._loss_gradient = counted
    carlini.generate(x, y)
    carlini._loss_gradient = loss_gradient
    ours = {
        "BoundaryProjection": faces.BoundaryProjection(target, max_iter=gradients),
        "SmoothCarliniWagner": faces.SmoothCarliniWagner(
            target, binary_search_steps=5, max_iter=gradients // 5
        ),
    }
    for face in ours.values():
        face.set_params(verbose=False, batch_size=count)
        face.generate(x, y)  # warm up
    results = {"CarliniL2Method (ART)": carlini, **ours}
    rows = [(label, *measure(target, attack, x, y, repeats)) for label, attack in results.items()]
    print(f"\n{width} channels, {count} digits, {gradients} gradients each")
    print(f"{'attack':<24}{'time':>10}{'success':>9}{'median L2':>11}{'faster':>9}")
    for label, duration, success, distance in rows:
        faster = rows[0][1] / duration
        print(f"{label:<24}{duration:>9.3f}s{success:>9.2f}{distance:>11.3f}{faster:>8.1f}x")


def measure(
    target: PyTorchClassifier, attack: Any, x: np.ndarray, y: np.ndarray, repeats: int
) -> tuple[float, float, float]:
    result = np.empty_like(x)

    def job() -> None:
        result[:] = attack.generate(x, y)

    duration = statistics.median(seconds(job) for _ in range(repeats))
    fooled = target.predict(result).argmax(axis=1) != y
    distances = np.linalg.norm((result - x).reshape(len(x), -1), axis=1)
    return duration, fooled.mean(), float(np.median(distances[fooled])) if fooled.any() else np.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    keep_memory()
    overhead(arguments.repeats, arguments.device)
    for width in (16, 64):
        against_carlini(width, arguments.images, arguments.device, 3)


if __name__ == "__main__":
    main()
