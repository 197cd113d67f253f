"""Docstrings written as Foolbox's, in the words of reStructuredText, read as Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?(?P<name>[^`]+)`")
KEY = re.compile(r"\[#(?P<key>\w+)\]_")
REFERENCE = re.compile(r"^(?P<indent>\s*)\.\. \[#(?P<key>\w+)\]", re.MULTILINE)
LITERAL = re.compile(r"``([^`]+)``")


class Markdown(griffe.Extension):
    """Turns roles into code and references into citations."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """A docstring with Markdown for roles, references and literals."""
    text = REFERENCE.sub(r"\g<indent>**\\[\g<key>\\]**", text)
    text = KEY.sub(r"\\[\g<key>\\]", text)
    text = ROLE.sub(lambda match: f"`{match['name'].removeprefix('foolart.')}`", text)
    return LITERAL.sub(r"`\1`", text)
