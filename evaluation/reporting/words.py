"""How numbers and names are written, in one place for the page and all tables."""

from __future__ import annotations

import math

from foolart.evaluation.statistics import Estimate
from foolart.evaluation.summary import Line, Row, Task

MISSING = "–"
VARIANTS = {"raw": "raw floats", "rounded": "rounded", "lagrangian": "Q_λ"}
THREATS = {
    "transfer": "transferred",
    "white-box": "white-box",
    "bpda": "BPDA, identity",
    "bpda-smooth": "BPDA, smooth",
    "true-gradient": "true gradient",
    "bpda-eot": "BPDA + EOT",
    "decision": "decision-based",
}
NORMS = {"l2": "L2", "linf": "L∞"}


def percent(share: float | None) -> str:
    """A share as a percentage, without its sign: ``94.1``, ``100``."""
    if share is None:
        return MISSING
    text = f"{100 * share:.1f}"
    return text.removesuffix(".0") if share in (0, 1) else text


def percent_interval(estimate: Estimate) -> str:
    """An interval of shares: ``73–99``; empty if unknown."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{100 * estimate.low:.0f}–{100 * estimate.high:.0f}"


def rate(estimate: Estimate | None) -> str:
    """A share with its interval, in percent: ``94.1 [73–99]``."""
    if estimate is None or estimate.value is None:
        return MISSING
    return f"{percent(estimate.value)} [{percent_interval(estimate)}]"


def distance(value: float | None) -> str:
    """A distance to three significant digits: ``0.254``, ``12.9``."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def mean_and_error(row: Row) -> str:
    """The mean distortion with its standard error: ``0.254 ± 0.031``."""
    if row.mean.value is None or row.standard_error is None:
        return distance(row.mean.value)
    # As many decimals for the error as for the mean, so that the two can be compared by eye.
    text = distance(row.mean.value)
    decimals = len(text.partition(".")[2]) if "e" not in text else 2
    return f"{text} ± {row.standard_error:.{decimals}f}"


def optimality(estimate: Estimate) -> str:
    """An optimality from 0 to 1, two digits."""
    return MISSING if estimate.value is None else f"{estimate.value:.2f}"


def count(value: float | None) -> str:
    """Passes per image: whole where they are whole."""
    if value is None:
        return MISSING
    return f"{value:.0f}" if value == round(value) or value >= 100 else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """Seconds per image."""
    return MISSING if value is None else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def memory(value: int | None) -> str:
    """Bytes as megabytes (10**6)."""
    return f"{value / 1e6:.0f}" if value else MISSING


def p_value(p: float) -> str:
    """A p-value: ``p < .001``, ``p = .012``."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def score(name: str) -> str:
    """The name of a perceptual score: ``MAD``, ``SSIM``."""
    return name.upper().replace("_", " ")


def variant(name: str) -> str:
    """What readers call a variant."""
    return VARIANTS.get(name, name)


def threat(of: Task | Line) -> str:
    """The threat model, with the source where the adversarials were computed elsewhere."""
    if not of.threat.startswith("transfer"):
        return THREATS.get(of.threat, of.threat)
    # From the same model means from the model without the defence.
    source = "the undefended model" if of.source == of.model else of.source
    return f"{of.threat} from {source}"


def task(of: Task) -> str:
    """A task as a heading: model, defence, threat and data."""
    parts = [of.model, f"behind {of.defence}" if of.defence else "", threat(of), of.data]
    return " · ".join(part for part in parts if part)


def attack(line: Line) -> str:
    """An attack with its variant."""
    return f"{line.attack} · {variant(line.variant)}"


def flags(row: Row) -> str:
    """The flags of a row, with the number of images where it is not all of them, and its error."""
    everywhere = row.correct * row.seeds
    found = [name if n == everywhere else f"{name} ({n})" for name, n in row.flags.items()]
    return "; ".join([*found, *([row.error] if row.error else [])])
