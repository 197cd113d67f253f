"""Attacks and defences by name: ours, Foolbox's built-ins, and those of other packages."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import foolbox

from foolart.evaluation import baselines
from foolart.evaluation.attack_names import BUILT_IN, GRADIENT_FREE, MENDED, OURS, WHOLE_BATCH
from foolart.evaluation.specs import Spec, cause, import_object, nearest

# Parameters of an attack's specification that are not its constructor's.
OWN = ("epsilon", "search", "repeats", "quantized", "alone")


@dataclass(frozen=True)
class Entry:
    """What the catalogue knows of an attack or a defence.

    Attributes:
        name: Its name here.
        build: Makes it from keyword arguments.
        summary: One line for ``foolart list``.
        origin: Who wrote it: ``foolart``, ``foolbox``, or the package of an entry point.
        alone: Whether an image's result depends on the others in its batch, so that each has to be
            attacked alone.
        gradients: Whether it needs a model with gradients.
    """

    name: str
    build: Callable[..., Any]
    summary: str
    origin: str
    alone: bool = False
    gradients: bool = True


@dataclass(frozen=True)
class BuiltAttack:
    """An attack, ready to run.

    Attributes:
        label: What tables call it.
        attack: The Foolbox attack.
        epsilon: Its budget, or None if it minimizes.
        alone: See :class:`Entry`.
        gradients: See :class:`Entry`.
    """

    label: str
    attack: Any
    epsilon: float | None
    alone: bool
    gradients: bool


def attacks() -> dict[str, Entry]:
    """All attacks by name, those of installed packages (``foolart.attacks``) included."""
    found = {
        name: _foolbox_entry(name, class_name)
        for name, class_name in BUILT_IN.items()
        if hasattr(foolbox.attacks, class_name)  # older releases of Foolbox have fewer
    }
    for name, class_name in MENDED.items():
        made = getattr(baselines, class_name, None)
        if made is None:
            continue
        found[name] = Entry(name, made, _summary(made), "foolbox, mended")
    for name, class_name in OURS.items():
        found[name] = Entry(name, _ours(class_name), _summary(_ours(class_name)), "foolart")
    return {**_plugged("foolart.attacks"), **found}


def build_attack(what: Spec) -> BuiltAttack:
    """Make an attack from its specification.

    All parameters go to the attack's constructor, but for ``epsilon`` (the budget of a
    fixed-epsilon attack; without it the smallest successful one is searched for each image),
    ``search`` (a table of arguments of that search), ``repeats`` (best of so many runs),
    ``quantized`` (a table of arguments of our ``Quantized``, which then wraps the attack) and
    ``alone`` (overrides :attr:`Entry.alone`).

    Args:
        what: A name of :func:`attacks`, ``foolbox:CLASS`` for a class of Foolbox as shipped,
            ``art:CLASS`` for one of ART, ``package.module:Class``, or a Foolbox attack as an
            object.

    Raises:
        ValueError: For an unknown name or parameter, or a value that the attack refuses.
    """
    params = dict(what.params)
    own = {name: params.pop(name, None) for name in OWN}
    given = what.needed()
    if given is not None:
        entry = Entry(what.name, lambda: given, "", "object")
    else:
        entry = _attack_entry(what.name)
    for name, value in params.items():
        if name.endswith("attack") and isinstance(value, str):
            params[name] = build_attack(Spec.parse(value, "attack")).attack
    if "distance" in _accepted(entry) or "distance" in params:
        # Foolbox's attacks that minimize in no particular norm have to be told one.
        distance = params.get("distance", "l2")
        if distance not in ("l0", "l1", "l2", "linf"):
            raise nearest(f"distance of attack {what.label}:", distance, ("l0", "l1", "l2", "linf"))
        params["distance"] = getattr(foolbox.distances, distance)
    attack = _call(entry, "attack", params)
    if not isinstance(attack, foolbox.attacks.base.Attack):
        raise ValueError(
            f"attack {what.label}: expected a foolbox.attacks.Attack, got {type(attack).__name__}"
        )
    epsilon = own["epsilon"]
    fixed = isinstance(attack, foolbox.attacks.base.FixedEpsilonAttack)
    if epsilon is None and fixed:
        attack = _ours("MinimalEpsilon")(attack, **(own["search"] or {}))
    elif own["search"] is not None:
        raise ValueError(
            f"attack {what.label}: search is for fixed-epsilon attacks that are given no epsilon"
        )
    if own["repeats"] is not None:
        attack = attack.repeat(own["repeats"])
    if own["quantized"] is not None:
        attack = _ours("Quantized")(attack, **own["quantized"])
    # The search asks for ever other parts of the batch at the same epsilon.
    alone = entry.alone or (epsilon is None and fixed)
    if own["alone"] is not None:
        alone = bool(own["alone"])
    return BuiltAttack(what.label, attack, epsilon, alone, entry.gradients)


def quantized(attack: Any, variant: str) -> Any:
    """The attack behind our wrapper that brings its images to 8 bits."""
    return _ours("Quantized")(attack, method=variant)


def _attack_entry(name: str) -> Entry:
    family, _, rest = name.partition(":")
    if family == "foolbox" and rest:
        classes = [
            key
            for key, value in vars(foolbox.attacks).items()
            if inspect.isclass(value) and issubclass(value, foolbox.attacks.base.Attack)
        ]
        if rest not in classes:
            raise nearest("attack", name, [f"foolbox:{key}" for key in classes])
        return _foolbox_entry(name, rest)
    if family == "art" and rest:
        # ART draws from NumPy's generator and stops for the whole batch: each image alone.
        return Entry(name, _art(rest), "", "art", alone=True)
    if rest:
        return Entry(name, import_object(name, "attack"), "", family)
    known = attacks()
    if name not in known and name in {**BUILT_IN, **MENDED}:
        raise ValueError(
            f"attack {name!r} is in newer releases of Foolbox than the installed "
            f"{foolbox.__version__}: upgrade it, or leave the attack out"
        )
    by_plain = {_plain(key): entry for key, entry in known.items()}
    by_plain |= {
        _plain(class_name): known[key]
        for key, class_name in [*BUILT_IN.items(), *OURS.items()]
        if key in known
    }
    if _plain(name) not in by_plain:
        raise nearest("attack", name, known, "See `foolart list attacks`.")
    return by_plain[_plain(name)]


def _art(name: str) -> Callable[..., Any]:
    try:
        from art.attacks import evasion

        from foolart.adapters.art import art_attack
    except ImportError as error:
        raise ValueError(
            f'attack art:{name} needs ART ({error}): pip install "foolart[art]"'
        ) from error
    if not inspect.isclass(getattr(evasion, name, None)):
        classes = [key for key, value in vars(evasion).items() if inspect.isclass(value)]
        raise nearest("attack", f"art:{name}", [f"art:{key}" for key in classes])

    def build(**params: Any) -> Any:
        return art_attack(name, **params)

    return build


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removesuffix("attack"))


def _foolbox_entry(name: str, class_name: str) -> Entry:
    made = getattr(foolbox.attacks, class_name)
    free = class_name in GRADIENT_FREE
    return Entry(name, made, _summary(made), "foolbox", class_name in WHOLE_BATCH, not free)


def _ours(class_name: str) -> Any:
    module = importlib.import_module("foolart.adapters.foolbox")
    return getattr(module, class_name)


def _summary(made: Any) -> str:
    return (inspect.getdoc(made) or "").split("\n")[0].split(" [#")[0].rstrip(".")


def _plugged(group: str) -> dict[str, Entry]:
    found = {}
    for point in entry_points(group=group):
        try:
            made = point.load()
        except Exception as error:
            raise ValueError(
                f"package {point.dist.name if point.dist else point.value!r} offers {point.name!r} "
                f"to {group}, but it cannot be imported ({error!r}): repair or uninstall it"
            ) from error
        origin = point.dist.name if point.dist else point.value
        entry = made if isinstance(made, Entry) else Entry(point.name, made, _summary(made), origin)
        found[point.name] = entry
    return found


def _accepted(entry: Entry) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(entry.build).parameters
    except ValueError:  # classes written in C have none
        return {}


def _call(entry: Entry, kind: str, params: Mapping[str, Any]) -> Any:
    accepted = _accepted(entry)
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    for name in params:
        if name not in accepted and not anything:
            raise nearest(f"parameter of {kind} {entry.name}:", name, accepted)
    try:
        return entry.build(**params)
    except ImportError as error:
        missing = error.name or str(error)
        raise ValueError(f"{kind} {entry.name} needs {missing}: pip install {missing}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind} {entry.name}: {error}") from error
    except Exception as error:
        raise ValueError(f"{kind} {entry.name}: making it raises {cause(error)}") from error
