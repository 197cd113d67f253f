"""Several workers on one results folder: processes of this machine, or jobs of a cluster.

A worker is given the folder and nothing else. It takes units that nobody has claimed, computes
them, and stops when none is left; workers that die lose the unit they were at.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from foolart.evaluation.scenario import Scenario
from foolart.evaluation.store import Store

POLL = 0.2


def launch(
    store: Store,
    scenario: Scenario,
    transfer: bool,
    names: set[str],
    progress: Callable[[int, int, str], None],
) -> None:
    """Start workers and wait until all are done.

    Args:
        store: The results folder; scenario and plan are in it.
        scenario: What says how many workers, and where.
        transfer: Whether the units that read other units' results are to be computed.
        names: The units of the plan.
        progress: Called while waiting.

    Raises:
        ValueError: If the executor's package is not installed.
        KeyboardInterrupt: If interrupted; workers are stopped first.
    """
    run = scenario.run
    workers = max(1, run.workers)
    claims = store.units / f"claims-{uuid.uuid4().hex[:8]}"
    claims.mkdir(parents=True)
    devices = _devices(scenario.device, workers)
    start = {"local": _processes, "ray": _ray}.get(run.executor, _submitit)
    running = start(store, run, claims, devices, transfer)
    try:
        while not all(done() for done, _ in running):
            time.sleep(POLL)
            progress(len(store.finished() & names), len(names), f"{workers} workers")
    except BaseException:
        for _, stop in running:
            stop()
        raise
    finally:
        shutil.rmtree(claims, ignore_errors=True)
    progress(len(store.finished() & names), len(names), "")


Worker = tuple[Callable[[], bool], Callable[[], object]]
"""How to ask whether a worker is done, and how to stop it."""


def _processes(
    store: Store, run: Any, claims: Path, devices: list[str], transfer: bool
) -> list[Worker]:
    del run
    code = "from foolart.evaluation.executors import serve; import sys; serve(*sys.argv[1:])"
    running: list[Worker] = []
    for device in devices:
        arguments = [str(store.folder), str(claims), device, str(int(transfer))]
        process = subprocess.Popen([sys.executable, "-c", code, *arguments])
        running.append((lambda p=process: p.poll() is not None, process.terminate))  # type: ignore[misc]
    return running


def _submitit(
    store: Store, run: Any, claims: Path, devices: list[str], transfer: bool
) -> list[Worker]:
    try:
        import submitit
    except ImportError as error:
        raise ValueError(
            f'executor {run.executor!r} needs submitit: pip install "foolart[cluster]"'
        ) from error
    cluster = "local" if run.executor == "submitit" else run.executor
    executor = submitit.AutoExecutor(folder=store.folder / "cluster", cluster=cluster)
    executor.update_parameters(**{"timeout_min": 24 * 60, **run.cluster})
    folder = store.folder.absolute()
    jobs = [
        executor.submit(serve, str(folder), str(claims.absolute()), device, str(int(transfer)))
        for device in devices
    ]
    return [(job.done, job.cancel) for job in jobs]


def _ray(store: Store, run: Any, claims: Path, devices: list[str], transfer: bool) -> list[Worker]:
    try:
        import ray
    except ImportError as error:
        raise ValueError('executor ray needs Ray: pip install "foolart[ray]"') from error
    if not ray.is_initialized():
        ray.init(**{"include_dashboard": False, "log_to_driver": False, **run.cluster})
    running: list[Worker] = []
    for device in devices:
        # Ray shows a worker the one GPU that it gives it.
        gpu = device.startswith("cuda")
        remote = ray.remote(max_retries=0, num_cpus=1, num_gpus=int(gpu))(serve)
        folders = str(store.folder.absolute()), str(claims.absolute())
        job = remote.remote(*folders, "cuda" if gpu else device, str(int(transfer)))
        running.append(
            (
                lambda job=job: bool(ray.wait([job], timeout=0)[0]),  # type: ignore[misc]
                lambda job=job: ray.cancel(job, force=True),  # type: ignore[misc]
            )
        )
    return running


def serve(folder: str, claims: str, device: str, transfer: str) -> None:
    """What a worker does: compute what nobody else has claimed.

    Args:
        folder: The results folder.
        claims: A folder for this launch's claims.
        device: Where to compute.
        transfer: ``1`` for the units that read other units' results, else ``0``.
    """
    from foolart.evaluation.engine import work
    from foolart.evaluation.plan import Plan
    from foolart.evaluation.results import PLAN

    store = Store(Path(folder))
    scenario = Scenario.load(store.folder / "scenario.toml")
    plan = Plan.from_json(store.read_json(PLAN))
    done = store.finished()
    pending = [u for u in plan.units if bool(u.source) == bool(int(transfer))]

    def claim(name: str) -> bool:
        # Exactly one process can create a file.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(Path(claims) / name, os.O_CREAT | os.O_EXCL))
            return True
        return False

    with contextlib.suppress(KeyboardInterrupt):
        work(store, scenario, plan, [u for u in pending if u.name not in done], device, claim)


def _devices(device: str, workers: int) -> list[str]:
    if device != "cuda":
        return [device] * workers
    count = max(1, torch.cuda.device_count())
    return [f"cuda:{k % count}" for k in range(workers)]
