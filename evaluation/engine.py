"""Carrying out a scenario: plan it, compute what is missing, sum up what is there."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from foolart.evaluation import executors
from foolart.evaluation.catalogue import BuiltAttack, build_attack
from foolart.evaluation.compute import Bench
from foolart.evaluation.data import Part, load_data
from foolart.evaluation.fairness import check
from foolart.evaluation.models import LoadedModel, load_model
from foolart.evaluation.pixels import to_inputs
from foolart.evaluation.plan import Plan, Unit, code_version, digest, stable_repr, units
from foolart.evaluation.results import PLAN, Results
from foolart.evaluation.scenario import Scenario
from foolart.evaluation.store import Damaged, Store

Progress = Callable[[int, int, str], None]
"""Told how many of how many units are finished, and what comes next."""


def evaluate(
    scenario: Any = "quick", out: str | Path | None = None, progress: Progress | None = None
) -> Results:
    """Compare attacks as a scenario says, and write a results folder.

    An existing folder of the same scenario is gone on with: what is finished is not computed again.

    Args:
        scenario: A :class:`Scenario`, a table, a TOML file, or the name of a preset.
        out: The results folder; None for a new temporary one.
        progress: Called after every work unit.

    Raises:
        ValueError: For anything wrong with the scenario, before anything is computed; and for a
            folder of another scenario, which is left as it is.
        KeyboardInterrupt: If interrupted; call again, or :func:`resume`, to go on.
        OSError: If the results cannot be written.
    """
    scenario = Scenario.of(scenario)
    folder = Path(tempfile.mkdtemp(prefix="foolart-")) if out is None else Path(out)
    store = Store(folder)
    scenario = _settled(scenario, _existing(store))
    plan = _plan(store, scenario, progress or _silent)
    _compute(store, scenario, plan, progress or _silent)
    results = Results.load(folder, scenario)
    results.write()
    return results


def resume(folder: str | Path, progress: Progress | None = None) -> Results:
    """Go on with an interrupted run.

    Raises:
        ValueError: If there is no results folder, or its scenario cannot be carried out here.
    """
    path = Path(folder) / "scenario.toml"
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no scenario.toml, so there is nothing to resume: start a run with "
            f"`foolart evaluate --out {shlex.quote(str(folder))}`"
        )
    return evaluate(Scenario.load(path), folder, progress)


def _silent(done: int, total: int, what: str) -> None:
    del done, total, what


def _existing(store: Store) -> Scenario | None:
    path = store.folder / "scenario.toml"
    if path.is_file():
        return Scenario.load(path)
    if store.folder.exists() and not store.folder.is_dir():
        raise ValueError(f"{store.folder} is a file: choose another folder with --out")
    if store.folder.is_dir() and any(store.folder.iterdir()):
        raise ValueError(
            f"{store.folder} exists, but is no results folder of foolart: choose another with --out"
        )
    return None


def _settled(scenario: Scenario, existing: Scenario | None) -> Scenario:
    """The scenario with the machine's choices made, as the folder has them if it exists."""
    try:
        device = torch.device(scenario.device)
    except RuntimeError as error:
        raise ValueError(
            f"expected a device such as cpu or cuda, got {scenario.device!r}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device cuda: PyTorch sees no GPU here: use --device cpu, or install a CUDA build of "
            "PyTorch (https://pytorch.org/get-started)"
        )
    if device.type == "cpu" and scenario.threads is None:
        threads = existing.threads if existing else None
        scenario = scenario.with_(threads=threads or torch.get_num_threads())
    if existing is not None and scenario.configuration() != existing.configuration():
        ours, theirs = scenario.configuration(), existing.configuration()
        keys = [k for k in sorted({*ours, *theirs}) if ours.get(k) != theirs.get(k)]
        raise ValueError(
            "the results folder holds another configuration, which differs in "
            f"{', '.join(keys)}: choose another folder with --out, or go on with the old one by "
            "`foolart resume`. Nothing was changed"
        )
    return scenario


def _plan(store: Store, scenario: Scenario, progress: Progress) -> Plan:
    """The plan that the folder holds, if this code made it, else a new one."""
    try:
        plan = Plan.from_json(store.read_json(PLAN))
        if plan.code == code_version():
            return plan
    except (OSError, Damaged, KeyError, TypeError):
        pass
    progress(0, 0, "checking models, data and attacks")
    attacks = [build_attack(what) for what in scenario.attacks]
    checks = tuple(check(attack) for attack in attacks)
    parts = [load_data(what) for what in scenario.data]
    digests = {}
    gradients = any(attack.gradients for attack in attacks)
    load = loader(scenario, scenario.device)
    for m in range(len(scenario.models)):
        for f in range(-1, len(scenario.defences)):
            model = load(m, f)
            for d, part in enumerate(parts):
                digests[d, m, f] = _fit(scenario, model, part, gradients)
    texts = [_text(a, c.alone) for a, c in zip(attacks, checks, strict=True)]
    plan = Plan(code_version(), tuple(units(scenario, parts, digests, texts)), checks)
    store.write_text("scenario.toml", scenario.to_toml())
    store.write_json("environment.json", environment(scenario))
    store.write_json(PLAN, plan.as_json())
    return plan


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
    try:
        outputs = model.foolbox(x)
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
        if defence >= 0:
            raise ValueError("defences need foolart.adapters.foolbox.defend")
        return load_model(scenario.models[model], device)

    return load


def _compute(store: Store, scenario: Scenario, plan: Plan, progress: Progress) -> None:
    """Compute all units that are missing, own ones first, then those that read their results."""
    store.clean()
    done = _sound(store, plan)
    run = scenario.run
    for transfer in (False, True):
        pending = [u for u in plan.units if bool(u.source) == transfer and u.name not in done]
        if not pending:
            continue
        if run.workers == 0 and run.executor == "local":
            work(store, scenario, plan, pending, scenario.device, progress=progress)
        else:
            executors.launch(store, scenario, transfer, len(plan.units), progress)
        done |= store.finished()


def _sound(store: Store, plan: Plan) -> set[str]:
    """The units that are finished; damaged ones are put aside."""
    done = store.finished() & {unit.name for unit in plan.units}
    for name in sorted(done):
        try:
            store.read_unit(name)
        except Damaged:
            store.drop_unit(name)
            done.discard(name)
    return done


def work(
    store: Store,
    scenario: Scenario,
    plan: Plan,
    pending: Iterable[Unit],
    device: str,
    claim: Callable[[str], bool] = lambda name: True,
    progress: Progress = _silent,
) -> None:
    """Compute units, one after the other; one that cannot be written does not stop the rest.

    Args:
        store: The results folder.
        scenario: Its scenario.
        plan: Its plan.
        pending: The units to compute.
        device: Where to.
        claim: Whether a unit, by name, is this worker's to compute.
        progress: Called before every unit.
    """
    parts = [load_data(what) for what in scenario.data]
    bench = Bench(scenario, store, parts, loader(scenario, device), plan.checks)
    before = torch.get_num_threads(), torch.backends.cudnn.deterministic
    done = len(store.finished())
    try:
        if scenario.threads is not None:
            torch.set_num_threads(scenario.threads)
        torch.backends.cudnn.deterministic = True
        for unit in pending:
            if not claim(unit.name):
                continue
            progress(done, len(plan.units), scenario.attacks[unit.attack].label)
            try:
                store.write_unit(unit.name, bench.compute(unit))
            except OSError as error:
                print(f"foolart: unit {unit.name} was not written: {error}", file=sys.stderr)
            done += 1
        progress(done, len(plan.units), "")
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.deterministic = before[1]


def environment(scenario: Scenario) -> dict[str, Any]:
    """Versions, machine and command, for ``environment.json``."""
    packages = ("foolart", "foolbox", "eagerpy", "torch", "numpy", "adversarial-robustness-toolbox")
    device = torch.device(scenario.device)
    return {
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": scenario.threads,
        "code": code_version(),
        "versions": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
        return text.split("model name")[1].split(":")[1].split("\n")[0].strip()
    except (OSError, IndexError):
        return platform.processor()
