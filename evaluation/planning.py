"""Making a run's plan: all is loaded, checked and hashed once, before anything is computed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch

from foolart.evaluation.adaptive import attacked, threats
from foolart.evaluation.catalogue import BuiltAttack, build_attack
from foolart.evaluation.data import Part, load_data
from foolart.evaluation.defences import defended
from foolart.evaluation.fairness import check
from foolart.evaluation.models import LoadedModel, load_model
from foolart.evaluation.pixels import to_inputs
from foolart.evaluation.plan import Plan, code_version, digest, stable_repr, units
from foolart.evaluation.scenario import Scenario


def make_plan(scenario: Scenario) -> Plan:
    """Check a scenario against models, data and attacks, and cut it into work units.

    Raises:
        ValueError: For anything that cannot be found, loaded, or does not fit together.
    """
    attacks = [build_attack(what) for what in scenario.attacks]
    checks = tuple(check(attack) for attack in attacks)
    parts = [load_data(what) for what in scenario.data]
    digests = {}
    inputs = dict(_unloaded(attacks, parts))
    behind: dict[tuple[int, int], tuple[str, ...]] = {}
    gradients = any(attack.gradients for attack in attacks)
    load = loader(scenario, scenario.device)
    for m in range(len(scenario.models)):
        for f in range(-1, len(scenario.defences)):
            model = load(m, f)
            inputs[_name(scenario, m, f)] = model.digest
            behind[m, f] = threats(model.defence if "adaptive" in scenario.threats else None)
            for d, part in enumerate(parts):
                digests[d, m, f] = _fit(scenario, model, part, gradients)
    texts = [_text(a, c.alone) for a, c in zip(attacks, checks, strict=True)]

    def views(m: int, f: int, a: int) -> tuple[str, ...]:
        return behind[m, f] if attacks[a].gradients else threats(None, gradients=False)

    found = tuple(units(scenario, parts, digests, texts, views))
    return Plan(code_version(), found, checks, inputs)


def changed(scenario: Scenario, plan: Plan) -> list[str]:
    """What is no longer as it was when a plan was made: names of models, data and attacks.

    Raises:
        ValueError: For what can no longer be found or loaded.
    """
    attacks = [build_attack(what) for what in scenario.attacks]
    now = dict(_unloaded(attacks, [load_data(what) for what in scenario.data]))
    load = loader(scenario, scenario.device)
    for m in range(len(scenario.models)):
        for f in range(-1, len(scenario.defences)):
            now[_name(scenario, m, f)] = load(m, f).digest
    return [name for name, content in now.items() if plan.inputs.get(name, content) != content]


def _unloaded(attacks: list[BuiltAttack], parts: list[Part]) -> Iterator[tuple[str, str]]:
    """Names and hashes of all that is no model."""
    for attack in attacks:
        yield f"attack {attack.label}", digest(stable_repr(attack.attack), attack.epsilon)
    for part in parts:
        yield f"data {part.label}", digest(part.hashes)


def _name(scenario: Scenario, m: int, f: int) -> str:
    behind = f" behind {scenario.defences[f].label}" if f >= 0 else ""
    return f"model {scenario.models[m].label}{behind}"


def _text(attack: BuiltAttack, alone: bool) -> str:
    return f"{stable_repr(attack.attack)} {attack.epsilon} {alone}"


def _fit(scenario: Scenario, model: LoadedModel, part: Part, gradients: bool) -> str:
    """Refuse a model and data that do not fit; else a hash of the model and how it answers.

    Raises:
        ValueError: Naming both, and what to change.
    """
    image = part.images(0, 1)
    x = to_inputs(image[[0] * scenario.compute_batch], model.device).requires_grad_(gradients)
    both = f"model {model.label} and data {part.label}"
    # One draw of a random defence: the graph of all that the judge asks would not fit into memory.
    view = attacked(model.defended or model.foolbox, model.defence, "white-box")
    try:
        outputs = view(x)
    except Exception as error:
        raise ValueError(
            f"{both} do not fit: images of shape {image.shape[1:]} make the model raise {error!r}"
        ) from error
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"model {model.label}: expected logits of shape (N, C) with at least 2 classes, got "
            f"{tuple(outputs.shape)}: a binary model with one logit z has to return (-z, z)"
        )
    classes = outputs.shape[1]
    if part.labels.min() < 0 or part.labels.max() >= classes:
        raise ValueError(
            f"{both} do not fit: the model has classes 0 to {classes - 1}, the labels go from "
            f"{part.labels.min()} to {part.labels.max()}"
        )
    if part.numbered is not None and part.numbered != classes:
        raise ValueError(
            f"{both} do not fit: the folder's {part.numbered} class subfolders were numbered from "
            f"0, but the model has {classes} classes: put the model's own labels into a table "
            "labels.csv (columns file,label) in the folder"
        )
    if gradients:
        if not outputs.requires_grad:
            raise ValueError(
                f"model {model.label}: expected a model with gradients, but none reach the inputs: "
                "look for detach(), torch.no_grad(), rounding or NumPy in the model, or choose "
                "attacks without gradients"
            )
        outputs.sum().backward()
    if not bool(torch.isfinite(outputs).all()):
        raise ValueError(f"{both} do not fit: the model returns NaN or infinite logits")
    return digest(model.digest, outputs[0].tolist())


def loader(scenario: Scenario, device: str) -> Callable[[int, int], LoadedModel]:
    """A function that loads the scenario's models by index, and keeps the last one loaded."""

    @functools.lru_cache(maxsize=1)
    def load(model: int, defence: int) -> LoadedModel:
        loaded = load_model(scenario.models[model], device)
        return loaded if defence < 0 else defended(loaded, scenario.defences[defence])

    return load
