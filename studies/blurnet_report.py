"""The tables of ``studies/blurnet.py`` as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from foolart.evaluation.statistics import wilson

Row = dict[str, Any]
PRINTED = {
    "own": "photographs it was made from",
    "held": "others",
    "held, not printed": "others, without the PNG",
    "held, 256x256": "others, put on at 256x256",
}


def report(known: dict[str, Any]) -> str:
    """All tables whose rows are known, with intervals of 95 %."""
    rows, setting = known["rows"], known["setting"]
    seconds = sum(row["cpu_seconds"] for row in rows.values())
    parts = [
        clean_line(rows),
        sticker_table(rows),
        printed_table(rows),
        spectra_table(rows),
        *(transfer_table(rows, mask) for mask in ("rectangles", "octagon")),
        aware_table(rows),
        white_box_table(rows, setting),
        sensitivity_table(rows, setting),
    ]
    return "\n".join([*filter(None, parts), f"{seconds / 60:.1f} CPU-minutes.", ""])


def clean_line(rows: dict[str, Row]) -> str:
    """LISA-CNN on its photographs."""
    if "LISA-CNN" not in rows:
        return ""
    row = rows["LISA-CNN"]
    losses = ", ".join(f"{v:.5f} to class {k}" for k, v in row["cross_entropy"].items())
    return f"LISA-CNN: {row['stop']} of 20 photographs are stop; cross-entropy {losses}.\n"


def sticker_table(rows: dict[str, Row]) -> str:
    """RP2 on LISA-CNN under both masks."""
    found = [
        [*key.split(" | ")[1:], share(row["reached"]), share(row["changed"]), dissimilarity(row)]
        for key, row in rows.items()
        if key.startswith("stickers | ")
    ]
    head = ["mask", "lambda", "target reached", "prediction changed", "dissimilarity"]
    return table("RP2 on LISA-CNN, 20 photographs", head, found)


def printed_table(rows: dict[str, Row]) -> str:
    """Opaque stickers that were saved as PNG."""
    found = [
        [
            key.split(" | ")[1],
            *(share(row[where]["reached"]) for where in PRINTED),
            share(row["held"]["changed"]),
            f"{row['largest_change_outside']:g}",
        ]
        for key, row in rows.items()
        if key.startswith("printed | ")
    ]
    head = ["mask", *PRINTED.values(), "changed, others", "largest change outside the mask"]
    return table("Opaque stickers, saved as PNG and loaded: target reached", head, found)


def spectra_table(rows: dict[str, Row]) -> str:
    """Shares of high frequencies."""
    if "spectra" not in rows:
        return ""
    places = {k: v for k, v in rows["spectra"].items() if isinstance(v, dict)}
    head = ["of", *next(iter(places.values()))]
    found = [[where, *(f"{100 * v:.0f}" for v in row.values())] for where, row in places.items()]
    return table("Percent of the energy beyond half the Nyquist frequency", head, found)


def transfer_table(rows: dict[str, Row], mask: str) -> str:
    """Table 1 under one mask."""
    verdicts = rows.get(f"transfer | {mask}", {})
    found = [
        [
            name,
            share(row["accuracy"]),
            f"{row['confidence']:.2f}",
            share(row["changed"]),
            share(row["reached"]),
            share(row["kept"]),
        ]
        for name, row in verdicts.items()
        if isinstance(row, dict)
    ]
    head = ["network", "accuracy", "confidence", "changed", "target reached", "still correct"]
    return table(f"Table 1, transfer, mask: {mask}, lambda .002", head, found)


def aware_table(rows: dict[str, Row]) -> str:
    """Stickers that know of the filter."""
    known, low = rows.get("transfer | rectangles", {}), rows.get("low frequencies", {})
    found = []
    for key, row in rows.items():
        name = key.removeprefix("untargeted | ")
        if name != key and name in known and name in low:
            made = rows[f"made for | {name}"]
            cells = [known[name]["changed"], low[name]["changed"], made["changed"], made["reached"]]
            cells += [row["changed"], row["kept"]]
            found.append([name, *map(share, cells), dissimilarity(made), dissimilarity(row)])
    head = ["network", "changed, transfer", "changed, transfer of low frequencies"]
    head += ["changed, made for it", "reached, made for it"]
    head += ["changed, untargeted", "still correct, untargeted"]
    head += ["dissimilarity, made for it", "dissimilarity, untargeted"]
    return table("Stickers that know of the filter, mask: rectangles, lambda .002", head, found)


def white_box_table(rows: dict[str, Row], setting: dict[str, Any]) -> str:
    """Table 2: one line a network, over seeds, targets and lambdas."""
    found = []
    for name in names(rows):
        tests = [row["accuracy"] for key, row in rows.items() if key.startswith(f"test | {name} |")]
        stickers = select(rows, name, " | RP2 | ")
        if not stickers or not tests:
            continue
        line = [name, f"{100 * mean(tests):.1f} ({spread(tests)})"]
        line.append(over(stickers, "accuracy", setting))
        line += [over(stickers, "changed", setting), worst(stickers, "changed")]
        line += [over(stickers, "reached", setting), worst(stickers, "reached")]
        line += [f"{mean(row['dissimilarity'] for row in stickers):.3f}"]
        for attack in (" | untargeted", " | low frequencies", " | regulariser", " | PGD 8/255"):
            line.append(over(select(rows, name, attack), "changed", setting))
        line.append(", ".join(f"{row['distance']:.2f}" for row in select(rows, name, " | DDN")))
        found.append(line)
    head = ["network", "test accuracy (seeds)", "stop signs", "changed, mean", "worst"]
    head += ["reached, mean", "worst", "dissimilarity"]
    head += ["untargeted", "low frequencies", "regulariser-aware", "PGD 8/255", "DDN, median L2"]
    text = f"Table 2, white-box, {setting['images']} stop signs, seeds {setting['seeds']}, "
    text += f"targets {setting['targets']}, lambdas {setting['lams']}, {setting['steps']} steps"
    return table(text, head, found)


def sensitivity_table(rows: dict[str, Row], setting: dict[str, Any]) -> str:
    """What target and lambda change in table 2."""
    parts = [f"lambda {lam:g}" for lam in setting["lams"]]
    parts += [f"target {target}" for target in setting["targets"]]
    found = []
    for name in names(rows):
        cells = [
            [
                row
                for key, row in rows.items()
                if key.startswith(f"white-box | {name} | ")
                and " | RP2 | " in key
                and f"{key} |".find(f"| {part} |") > 0
            ]
            for part in parts
        ]
        if all(cells):
            line = [f"{100 * mean(r['changed']['value'] for r in cell):.0f}" for cell in cells]
            found.append([name, *line])
    return table("Table 2 by lambda and by target: changed, mean", ["network", *parts], found)


def names(rows: dict[str, Row]) -> list[str]:
    """The networks of table 2, in the order in which they were attacked."""
    keys = [key.split(" | ")[1] for key in rows if key.startswith("white-box | ")]
    return list(dict.fromkeys(keys))


def select(rows: dict[str, Row], name: str, part: str) -> list[Row]:
    """The rows of a network in table 2 whose key has a part."""
    return [r for key, r in rows.items() if key.startswith(f"white-box | {name} |") and part in key]


def over(rows: Sequence[Row], what: str, setting: dict[str, Any]) -> str:
    """A mean over rows: the images are the sample, however many seeds and targets there are."""
    if not rows:
        return ""
    return share(vars(wilson(mean(row[what]["value"] for row in rows), setting["images"])))


def worst(rows: Sequence[Row], what: str) -> str:
    """The attacker's best row."""
    return share(max((row[what] for row in rows), key=lambda item: item["value"]))


def spread(values: Iterable[float]) -> str:
    """All values, as percentages."""
    return ", ".join(f"{100 * value:.1f}" for value in values)


def share(estimate: dict[str, float]) -> str:
    """A percentage and its interval."""
    value, low, high = (100 * estimate[name] for name in ("value", "low", "high"))
    return f"{value:.0f} ({low:.0f} to {high:.0f})"


def dissimilarity(row: Row) -> str:
    """Equation 1."""
    return f"{row['dissimilarity']:.3f}"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table under its title, or nothing without rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join([f"{title}:\n", *("| " + " | ".join(line) + " |" for line in lines), ""])
