"""Naming a thing and its parameters: ``ddn(steps=100)`` on the command line, a table in TOML."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import json
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CALL = re.compile(r"(?P<name>[^()]+?)\s*\((?P<arguments>.*)\)\s*", re.DOTALL)


@dataclass(frozen=True)
class Spec:
    """A name with parameters, or a Python object that stands in for them.

    Attributes:
        name: What the catalogue, the model zoo or the file system knows it by.
        params: Keyword arguments for it: numbers, strings, booleans and lists of them.
        label: What tables call it; the text of the specification unless one was given.
        value: A Python object to use instead of looking the name up (from the API only).
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    value: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Name what was not named."""
        if not self.label:
            object.__setattr__(self, "label", self.text)

    @classmethod
    def of(cls, what: Any, kind: str) -> Spec:
        """A specification from what a person wrote: text, a table, an object, or itself.

        Args:
            what: ``"ddn(steps=100)"``, ``{"name": "ddn", "steps": 100}`` (with ``"none"`` for
                None), a specification, a pair of a label and a Python object, or such an object.
            kind: What is specified, such as ``attack``: for messages.

        Raises:
            ValueError: If text or table cannot be understood.
        """
        if isinstance(what, Spec):
            return what
        if isinstance(what, (str, Path)):
            return cls.parse(str(what), kind)
        if isinstance(what, Mapping):
            table = dict(what)
            name, label = table.pop("name", ""), table.pop("label", "")
            if not isinstance(name, str) or not name:
                raise ValueError(f"expected a table with a name for each {kind}, got {what!r}")
            value = Absent(kind, name) if table.pop("object", False) else None
            params = {k: None if v == "none" else v for k, v in table.items()}
            return cls(name, params, label, value)
        if isinstance(what, tuple) and len(what) == 2 and isinstance(what[0], str):
            return cls(what[0], value=what[1])
        if kind == "data set" and hasattr(what, "shape"):
            raise ValueError(
                "expected each data set as a pair of arrays under a name, got an array: "
                'data=[("mine", (images, labels))]'
            )
        return cls(type(what).__name__, value=what)

    def needed(self) -> Any:
        """The Python object, or None if the name is to be looked up.

        Raises:
            ValueError: If there was an object, but this process does not have it.
        """
        if isinstance(self.value, Absent):
            self.value.refuse()
        return self.value

    @classmethod
    def parse(cls, text: str, kind: str) -> Spec:
        """A specification from text such as ``ddn(steps=100)`` or ``digits.npz(labels=y)``.

        Raises:
            ValueError: If the part in parentheses is no list of ``key=value``.
        """
        call = None if Path(text).exists() else _CALL.fullmatch(text)
        if call is None:
            return cls(text.strip())
        try:
            node = ast.parse(f"f({call['arguments']})", mode="eval").body
            if not isinstance(node, ast.Call) or node.args:
                raise SyntaxError("positional arguments")
            params = {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
        except SyntaxError as error:
            raise ValueError(
                f"expected {kind} as NAME or NAME(key=value, ...), got {text!r}"
            ) from error
        return cls(call["name"], params, str(params.pop("label", "")))

    @property
    def text(self) -> str:
        """The specification as one would type it."""
        if not self.params:
            return self.name
        return f"{self.name}({', '.join(f'{k}={_show(v)}' for k, v in self.params.items())})"

    def table(self) -> dict[str, Any]:
        """The specification as a TOML table; :meth:`of` gives an equal one back."""
        label = {} if self.label == self.text else {"label": self.label}
        given = {} if self.value is None else {"object": True}
        # TOML has no None.
        params = {k: "none" if v is None else v for k, v in self.params.items()}
        return {"name": self.name, **label, **given, **params}

    def key(self) -> str:
        """Canonical text of what is computed: equal for equal name and parameters."""
        return json.dumps([self.name, dict(self.params)], sort_keys=True, default=str)


@dataclass(frozen=True)
class Absent:
    """Stands for a Python object that a scenario file can only name."""

    kind: str
    name: str

    def refuse(self) -> None:
        """Say what to do about it.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{self.kind} {self.name!r} was given as a Python object, which no file holds: call "
            "foolart.evaluation.evaluate(...) with it again and the same folder as out"
        )


def nearest(kind: str, name: str, names: Iterable[str], hint: str = "") -> ValueError:
    """The error for a name that nobody knows, with the nearest ones that exist."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
    message = f"unknown {kind} {name!r}: did you mean {', '.join(close[:8])}?"
    return ValueError(f"{message} {hint}".strip())


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return {"true": True, "false": False}.get(text := ast.unparse(node), text)


def _show(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.]*", value):
        return value
    return repr(value)


def import_object(name: str, kind: str) -> Any:
    """The object behind ``package.module:name``; the working directory counts as a package path.

    Raises:
        ValueError: If there is no such module or no such name in it.
    """
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.append("")
    try:
        found = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"{kind} {name!r}: cannot import {module_name!r} ({error}): install it, or run from "
            "the folder that holds it"
        ) from error
    except Exception as error:
        raise ValueError(f"{kind} {name!r}: its module raises {cause(error)}") from error
    if not hasattr(found, attribute):
        raise nearest(f"name in {module_name!r}:", attribute, dir(found))
    return getattr(found, attribute)


def call(make: Any, params: Mapping[str, Any], what: str) -> Any:
    """Call a function that a person named, with the parameters that were given to it.

    Args:
        make: The function.
        params: Keyword arguments.
        what: What is made, such as ``model mine:net``: for messages.

    Raises:
        ValueError: If the function does not take these parameters, or for whatever it raises.
    """
    try:
        accepted = inspect.signature(make)
    except ValueError:  # what is written in C may have none
        accepted = inspect.signature(lambda **_: None)
    try:
        accepted.bind(**params)
    except TypeError as error:
        taken = ", ".join(map(str, accepted.parameters.values())) or "none"
        raise ValueError(f"{what}: {error}; its parameters are: {taken}") from error
    try:
        return make(**params)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{what}: making it raises {cause(error)}") from error


def cause(error: BaseException) -> str:
    """An exception in a line, with the place where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.name}, {frame.filename}:{frame.lineno})"
