"""What the thesis's chapter 5 asks of results that studies/integer_attack.py has kept.

python studies/kept_results.py FOLDER --budget D [--beside RESULTS]

FOLDER is the --out of that study. Printed are, for every attack, P_upp (the share of images fooled
within D) and after how many iterations an image was fooled first (stage 1 of BP); and for the five
images on which BP-100 went farthest, which attacks were closer (figure 5.8). RESULTS is a results
folder of the harness for the same images: DDN-100 is compared with its attacks after Q_lambda.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from pathlib import Path

WORST = "BP-100"
DDN = "DDN-100_+_Q_lambda"


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", type=float, required=True)
    parser.add_argument("--beside", type=Path)
    arguments = parser.parse_args()
    distances: dict[str, list[float]] = {}
    print(f"| attack | P({arguments.budget:g}) | first fooled after |\n| --- | --- | --- |")
    for file in sorted(arguments.folder.glob("*.json")):
        result = json.loads(file.read_text())
        found = [math.inf if d is None else d for d in result["distances"]]
        distances[file.stem] = found
        within = statistics.mean(d <= arguments.budget for d in found)
        # An iteration is a forward and a backward pass; the next forward judges where it led.
        first = [(queries[0] - 1) / 2 for queries, _ in result["curves"] if queries]
        after = f"{statistics.mean(first):.1f} ({len(first)} images)" if first else "–"
        print(f"| {file.stem} | {within:.2f} | {after} |")
    farthest = sorted(range(len(distances[WORST])), key=lambda k: -distances[WORST][k])[:5]
    for k in farthest:
        d = distances[WORST][k]
        closer = [f"{name} {v[k]:.3f}" for name, v in distances.items() if v[k] < d * (1 - 1e-6)]
        print(f"\nimage {k}: {WORST} {d:.3f}; closer: {', '.join(closer) or 'none'}")
    if arguments.beside:
        beside(distances[DDN], arguments.beside / "per_image.csv")


def beside(own: list[float], file: Path) -> None:
    """Compare distances with those of the harness's attacks, on correctly classified images."""
    others: dict[str, list[float]] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            if row["correct"] == "True" and row["variant"] == "lagrangian":
                found = float(row["distance"])  # NaN for a failure
                others.setdefault(row["attack"], []).append(math.inf if found != found else found)
    print(f"\n| {DDN} against | closer | ratio |\n| --- | --- | --- |")
    for name, distances in others.items():
        pairs = list(zip(distances, own, strict=True))
        closer = sum(o < d for d, o in pairs)
        logs = [math.log(o / d) for d, o in pairs if max(d, o) < math.inf]
        ratio = math.exp(statistics.mean(logs)) if logs else math.nan
        error = ratio * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
        print(f"| {name} | {closer} of {len(own)} | {ratio:.3f} ± {error:.3f} |")


if __name__ == "__main__":
    main()
