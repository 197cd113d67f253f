"""Signs, in the records of a run, that a defence hides gradients instead of being robust.

After the list of [#ACW]_: each sign that is found is a reason to believe that robust accuracy is
lower still than what was measured.

References:
    .. [#ACW] Athalye, Carlini, Wagner, "Obfuscated gradients give a false sense of security", ICML
       2018, section 3.1.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from foolart.evaluation.characteristic import NORMS
from foolart.evaluation.records import Record

NO_GRADIENT = "no gradient at the original"
"""The flag of a row whose model has a zero or missing gradient where the attack begins."""

GRADIENT_THREATS = ("white-box", "bpda", "bpda-smooth", "true-gradient", "bpda-eot")
# As in ``ddn(steps=20)`` and ``DDN-20``, but not in ``1e-05``.
_STEPS = re.compile(r"(?:\bsteps=|(?<=\w)(?<!\de)-)(\d+)\b")


def signs(rows: Sequence[Record], *, budget: float, norm: str = "l2") -> tuple[str, ...]:
    """What the rows of one model behind one defence give reason to suspect.

    Args:
        rows: Its rows, of all threat models.
        budget: The distance within which an adversarial counts, inputs scaled to [0, 1].
        norm: The norm of that distance.

    Returns:
        Sentences, without a full stop; none if nothing is suspicious.
    """
    rows = [row for row in rows if row.correct and not row.broken]
    by_threat: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        by_threat[row.threat].append(row)
    threats = {threat: by_threat[threat] for threat in sorted(by_threat)}
    return (
        *_no_gradient(threats),
        *_survivors(threats, norm),
        *_weaker_than_others(threats, budget, norm),
        *_more_steps(threats, budget, norm),
        *(_missing(threats) if rows and rows[0].defence else ()),
    )


def _no_gradient(threats: dict[str, list[Record]]) -> Iterator[str]:
    for threat, rows in threats.items():
        images = {row.image for row in rows}
        dead = {row.image for row in rows if NO_GRADIENT in row.flags.split(";")}
        if dead:
            yield f"{threat}: no gradient on {len(dead)} of {len(images)} images"


def _survivors(threats: dict[str, list[Record]], norm: str) -> Iterator[str]:
    """Gradients that lead somewhere fool every image if the distance is no matter."""
    own = [row for threat in GRADIENT_THREATS for row in threats.get(threat, ())]
    images = {row.image for row in own}
    standing = images - _fooled(own, float("inf"), norm)
    if standing:
        yield f"{len(standing)} of {len(images)} images survive every gradient attack"


def _weaker_than_others(
    threats: dict[str, list[Record]], budget: float, norm: str
) -> Iterator[str]:
    """Who knows more can do more: gradients of the defended model beat no gradients, or others'."""
    own = [row for threat in GRADIENT_THREATS for row in threats.get(threat, ())]
    for threat, rows in threats.items():
        if not own or threat in GRADIENT_THREATS:
            continue
        common = {row.image for row in own} & {row.image for row in rows}
        gradient = len(_fooled(own, budget, norm) & common)
        other = len(_fooled(rows, budget, norm) & common)
        if other > gradient:
            yield f"{threat} fools more images than gradients do ({other} against {gradient})"


def _more_steps(threats: dict[str, list[Record]], budget: float, norm: str) -> Iterator[str]:
    """An attack with more steps is never weaker."""
    families: dict[tuple[str, str, str, str], dict[int, list[Record]]]
    families = defaultdict(lambda: defaultdict(list))
    for threat, rows in threats.items():
        for row in rows:
            if found := _STEPS.search(row.attack):
                family = _STEPS.sub("", row.attack, count=1)
                families[threat, family, row.variant, row.source][int(found[1])].append(row)
    for (threat, _, variant, _), by_steps in sorted(families.items()):
        counts = sorted(by_steps)
        for few, many in pairwise(counts):
            common = {r.image for r in by_steps[few]} & {r.image for r in by_steps[many]}
            less = len(_fooled(by_steps[few], budget, norm) & common)
            more = len(_fooled(by_steps[many], budget, norm) & common)
            if more < less:
                name = by_steps[many][0].attack
                yield (
                    f"{threat}: {name} ({variant}) fools fewer images than with {few} steps "
                    f"({more} against {less})"
                )


def _missing(threats: dict[str, list[Record]]) -> Iterator[str]:
    """What a defence was not attacked with, so that its worst case may not be the worst."""
    if "bpda" not in threats and "bpda-eot" not in threats:
        yield "not attacked by BPDA"
    for threat in ("transfer", "decision"):
        if threat not in threats:
            yield f"not attacked by {threat}"


def _fooled(rows: Sequence[Record], budget: float, norm: str) -> set[int]:
    return {row.image for row in rows if row.success and getattr(row, NORMS[norm]) <= budget}
