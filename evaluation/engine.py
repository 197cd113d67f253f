"""Carrying out a scenario: plan it, compute what is missing, sum up what is there."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from foolart.evaluation import executors
from foolart.evaluation.compute import Bench
from foolart.evaluation.data import load_data
from foolart.evaluation.environment import environment
from foolart.evaluation.plan import Plan, Unit, code_version
from foolart.evaluation.planning import changed, loader, make_plan
from foolart.evaluation.results import PLAN, Results
from foolart.evaluation.scenario import KINDS, Scenario
from foolart.evaluation.specs import Absent
from foolart.evaluation.store import Damaged, Store

Progress = Callable[[int, int, str], None]
"""Told how many of how many units are finished, and what comes next."""


def evaluate(
    scenario: Any = "quick",
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    report: bool = True,
) -> Results:
    """Compare attacks as a scenario says, and write a results folder.

    An existing folder of the same scenario is gone on with: what is finished is not computed again.

    Args:
        scenario: A :class:`Scenario`, a table, a TOML file, or the name of a preset.
        out: The results folder; None for a new temporary one.
        progress: Called before every work unit.
        report: Whether to write the report, too; tables are written in any case.

    Raises:
        ValueError: For anything wrong with the scenario, before anything is computed; and for a
            folder of another scenario, or of other models, data or attacks of the same names,
            which is left as it is.
        KeyboardInterrupt: If interrupted; call again, or :func:`resume`, to go on.
        OSError: If the results cannot be written.
    """
    scenario = Scenario.of(scenario)
    folder = Path(tempfile.mkdtemp(prefix="foolart-")) if out is None else Path(out)
    store = Store(folder)
    existing = _existing(store)
    scenario = _settled(scenario, existing)
    tell = progress or _silent
    stored = _stored(store)
    if stored is None:
        tell(0, 0, "checking models, data and attacks")
    plan = stored or make_plan(scenario)
    done = finished(store, plan)
    pending = done != {unit.name for unit in plan.units}
    if pending:
        _objects(scenario)
    if stored is not None and (pending or _given(scenario)):
        _unchanged(scenario, plan)
    # First of all: a folder without it is no results folder, and not touched again.
    if existing != scenario:
        store.write_text("scenario.toml", scenario.to_toml())
    if stored is None:
        store.write_json("environment.json", environment(scenario))
        store.write_json(PLAN, plan.as_json())
    _compute(store, scenario, plan, done, tell)
    results = Results.load(folder, scenario)
    results.write()
    if report:
        from foolart.evaluation.reporting.report import report as write_report

        write_report(results)
    return results


def resume(folder: str | Path, progress: Progress | None = None, *, report: bool = True) -> Results:
    """Go on with an interrupted run.

    Args:
        folder: The results folder of that run.
        progress: Called before every work unit.
        report: Whether to write the report, too; tables are written in any case.

    Raises:
        ValueError: If there is no results folder, or its scenario cannot be carried out here.
    """
    path = Path(folder) / "scenario.toml"
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no scenario.toml, so there is nothing to resume: start a run with "
            f"`foolart evaluate --out {shlex.quote(str(folder))}`"
        )
    return evaluate(Scenario.load(path), folder, progress, report=report)


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
        raise ValueError(f"expected device to be cpu or cuda, got {scenario.device!r}") from error
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


def _stored(store: Store) -> Plan | None:
    """The plan that the folder holds, if this code made it."""
    try:
        plan = Plan.from_json(store.read_json(PLAN))
    except (OSError, Damaged, KeyError, TypeError):
        return None
    return plan if plan.code == code_version() else None


def _given(scenario: Scenario) -> bool:
    """Whether there are Python objects, and this process has them all."""
    values = [spec.value for kind in KINDS for spec in getattr(scenario, kind)]
    return any(v is not None for v in values) and not any(isinstance(v, Absent) for v in values)


def _unchanged(scenario: Scenario, plan: Plan) -> None:
    """Refuse models, data and attacks that are others than those of the folder's results."""
    names = changed(scenario, plan)
    if names:
        raise ValueError(
            f"the results folder holds results of other content under the same name: "
            f"{', '.join(names)}: choose another folder with --out, or bring back what was there. "
            "Nothing was changed"
        )


def _compute(
    store: Store, scenario: Scenario, plan: Plan, done: set[str], progress: Progress
) -> None:
    """Compute all units that are missing, own ones first, then those that read their results."""
    store.clean()
    scenario = _on_every_gpu(scenario)
    names = {unit.name for unit in plan.units}
    for transfer in (False, True):
        pending = [u for u in plan.units if bool(u.source) == transfer and u.name not in done]
        if not pending:
            continue
        if _here(scenario):
            work(store, scenario, plan, pending, scenario.device, progress=progress)
        else:
            executors.launch(store, scenario, transfer, names, progress)
        done = done | store.finished()


def _objects(scenario: Scenario) -> None:
    """Refuse Python objects that this process does not have, or that others would need."""
    for kind in KINDS:
        for spec in getattr(scenario, kind):
            if spec.needed() is not None and not _here(scenario):
                raise ValueError(
                    f"{KINDS[kind]} {spec.label!r} is a Python object, which other processes do "
                    "not have: name it as package.module:function, or compute with workers = 0"
                )


def _on_every_gpu(scenario: Scenario) -> Scenario:
    """One worker for each visible GPU, unless a number of workers, or one GPU, was asked for."""
    count = torch.cuda.device_count() if scenario.device == "cuda" and _here(scenario) else 0
    objects = any(spec.value is not None for kind in KINDS for spec in getattr(scenario, kind))
    return scenario.with_(workers=count) if count > 1 and not objects else scenario


def _here(scenario: Scenario) -> bool:
    return scenario.run.workers == 0 and scenario.run.executor == "local"


def finished(store: Store, plan: Plan) -> set[str]:
    """The units that are finished; damaged ones are put aside."""
    done = store.finished() & {unit.name for unit in plan.units}
    damaged = {name for name in done if not store.is_sound(name)}
    for name in damaged:
        store.drop_unit(name)
    return done - damaged


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
    # The folder may hold units of another plan, too.
    done = len(store.finished() & {unit.name for unit in plan.units})
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
