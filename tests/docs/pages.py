"""The code of the README and of the documentation's pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
# The longer form of pymdownx.snippets, which ruff does not take for Python and format.
INCLUDED = re.compile(r'--8<--(?: "|\n)(?P<path>[^"\n]+)(?:"|\n--8<--)')


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, and what it says."""

    page: Path
    line: int
    language: str
    code: str

    @property
    def included(self) -> Path | None:
        """The file that it shows instead of code of its own."""
        match = INCLUDED.fullmatch(self.code.strip())
        return ROOT / match["path"] if match else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """All blocks of some languages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match["language"] in languages:
                line = text.count("\n", 0, match.start()) + 2
                indent = len(match["indent"])
                code = "".join(row[indent:] for row in match["code"].splitlines(keepends=True))
                found.append(Block(page, line, match["language"], code))
    return found


def commands(block: Block) -> list[str]:
    """The command lines of a shell block, without prompts, comments and continuations.

    Of a transcript (``console``), only what follows a prompt is a command.
    """
    text = block.code.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [
        part.strip()
        for line in lines
        if line and not line.startswith("#")
        for part in line.split("&&")
    ]
