"""What a run says, in a few sentences: the top of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from foolart.evaluation.reporting import words
from foolart.evaluation.reporting.leaderboard import by_task
from foolart.evaluation.summary import Line, Row, Summary

LOSS = 0.1  # The share of the images from which on a loss of success by rounding is worth a word.


def findings(summary: Summary, limit: int = 4) -> list[tuple[str, str]]:
    """The winner of each task, what 8 bits cost the attacks, and what each defence holds.

    Args:
        summary: The numbers.
        limit: Tasks to speak about, and defences; the tables have them all. Transfer and defended
            models are told by what the defence holds in the worst case.

    Returns:
        Pairs of a topic, which may be empty, and what there is to say about it.
    """
    tasks = {
        task: rows
        for task, rows in by_task(summary).items()
        if not task.defence and not task.threat.startswith("transfer")
    }
    found = []
    for task, rows in list(tasks.items())[:limit]:
        if text := " ".join([*_winner(summary, rows), *_rounding(rows)]):
            found.append((words.task(task), text))
    if len(tasks) > limit:
        found.append(("", f"The tables cover {len(tasks) - limit} more settings."))
    return found + _defences(summary, limit)


def _defences(summary: Summary, limit: int) -> list[tuple[str, str]]:
    """What the best defences hold in the worst case, against their clean accuracy."""
    defended = [item for item in summary.robustness if item.defence]
    defended.sort(key=lambda item: (-(item.worst.value or 0), item.defence, item.model))
    return [
        (
            f"{item.defence} on {item.model}",
            f"Classifies {words.percent(item.clean.value)} % of the images correctly without "
            f"attack, and {words.percent(item.worst.value)} % (interval "
            f"{words.percent_interval(item.worst)}) in the worst case within distance "
            f"{item.budget:g} over: {', '.join(item.threats)}.",
        )
        for item in defended[:limit]
    ]


def trouble(summary: Summary) -> list[str]:
    """One sentence for each line that has no numbers, or fewer than were asked for."""
    return [
        f"{words.attack(row.line)} on {words.task(row.line.task)}: {row.error}"
        for row in summary.rows
        if row.error
    ]


def _winner(summary: Summary, rows: Sequence[Row]) -> Iterator[str]:
    measured = [row for row in rows if row.p_suc.value is not None]
    found = [row for row in measured if row.p_suc.value]
    if not found:
        if measured:
            yield "No attack found an adversarial for any image."
        return
    best = found[0]
    text = (
        f"Closest among {'8-bit images' if best.line.digital else 'raw floats'}: "
        f"{words.attack(best.line)}, which fools the model on "
        f"{words.percent(best.p_suc.value)} % of the images (interval "
        f"{words.percent_interval(best.p_suc)}) at a median {words.NORMS[summary.norm]} distance "
        f"of {words.distance(best.median.value)}"
    )
    others = [row.line for row in found if row.line.attack != best.line.attack]
    rival = next((line for line in others if line.digital == best.line.digital), None)
    if rival is not None:
        text += f"; {_against(summary, best.line.attack, rival)}"
    yield text + "."


def _against(summary: Summary, attack: str, rival: Line) -> str:
    """How the best and the next attack compare, image by image, both in the rival's variant."""
    for group in summary.wins:
        if (group.task, group.variant) != (rival.task, rival.variant):
            continue
        for pair in group.wins:
            if {pair.attack, pair.other} == {attack, rival.attack}:
                first = pair.attack == attack
                wins, losses = (pair.wins, pair.losses) if first else (pair.losses, pair.wins)
                both = f", both {words.variant(rival.variant)}," if rival.digital else ""
                return (
                    f"image by image{both} it beats the next, {rival.attack}, {wins} times to "
                    f"{losses} with {pair.ties} ties ({words.p_value(pair.p_adjusted)}, corrected)"
                )
    return f"the next is {rival.attack}"


def _rounding(rows: Sequence[Row]) -> Iterator[str]:
    """What rounding does to the attack that it hurts most, and what Q_lambda gives back."""
    losses = []
    for raw in rows:
        if raw.line.variant != "raw" or raw.p_suc.value is None:
            continue
        siblings = {row.line.variant: row for row in rows if row.line.attack == raw.line.attack}
        rounded = siblings.get("rounded")
        if rounded is not None and rounded.p_suc.value is not None:
            losses.append((raw.p_suc.value - rounded.p_suc.value, raw, rounded, siblings))
    if not losses or (worst := max(losses, key=lambda loss: loss[0]))[0] < LOSS:
        return
    _, raw, rounded, siblings = worst
    text = (
        f"Saving to 8 bits hurts {raw.line.attack} most: plain rounding takes it from "
        f"{words.percent(raw.p_suc.value)} % to {words.percent(rounded.p_suc.value)} %"
    )
    lagrangian = siblings.get("lagrangian")
    if lagrangian is not None and lagrangian.p_suc.value is not None:
        text += (
            f"; {words.variant('lagrangian')} reaches {words.percent(lagrangian.p_suc.value)} % at "
            f"a median of {words.distance(lagrangian.median.value)} (raw: "
            f"{words.distance(raw.median.value)})"
        )
    hurt = sum(loss[0] >= LOSS for loss in losses)
    if hurt > 1:
        text += f". {hurt} of {len(losses)} attacks lose at least {100 * LOSS:g} points that way"
    yield text + "."
