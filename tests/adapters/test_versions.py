"""Releases of the toolkits that no test has run with are refused, at import."""

from __future__ import annotations

import importlib
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

from foolart.adapters.versions import SUPPORTED, check_version

TOX = Path(__file__).parents[2] / "tox.ini"
MODULES = {
    "foolbox": "foolart.adapters.foolbox",
    "adversarial-robustness-toolbox": "foolart.adapters.art",
}


@pytest.fixture
def pretend(monkeypatch):
    def pretend(package, version):
        real = metadata.version
        monkeypatch.setattr(
            metadata, "version", lambda name: version if name == package else real(name)
        )

    return pretend


@pytest.mark.parametrize("package", SUPPORTED)
@pytest.mark.parametrize("end", [0, 1])
def test_other_releases_are_refused_at_import(pretend, monkeypatch, package, end):
    version = ("0.9.9", f"{SUPPORTED[package][1]}.0rc1")[end]
    pretend(package, version)
    monkeypatch.delitem(sys.modules, MODULES[package], raising=False)
    expected = rf'{package} from .* got {re.escape(version)}: pip install "{package}>='
    with pytest.raises(ImportError, match=expected):
        importlib.import_module(MODULES[package])


@pytest.mark.parametrize("package", SUPPORTED)
def test_releases_within_the_range_pass(pretend, package):
    first, beyond = SUPPORTED[package]
    for version in (first, f"{first}.post1", f"{beyond.split('.')[0]}.{int(beyond[2:]) - 1}.99"):
        pretend(package, version)
        check_version(package)


def test_a_missing_toolkit_is_not_refused(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    check_version("adversarial-robustness-toolbox")


@pytest.mark.parametrize("package", SUPPORTED)
def test_the_ranges_are_those_of_the_package(package):
    requirements = {r.partition(";")[0].strip() for r in metadata.requires("foolart") or []}
    (found,) = (r for r in requirements if re.match(rf"{package}[<>=]", r))
    first, beyond = SUPPORTED[package]
    assert set(found.removeprefix(package).split(",")) == {f">={first}", f"<{beyond}"}


@pytest.mark.parametrize("package", SUPPORTED)
def test_the_ranges_are_those_that_tox_runs(package):
    if not TOX.exists():
        pytest.skip("the tests run outside the repository")
    pins = re.findall(rf"{package}==([\d.]+)", TOX.read_text())
    first, beyond = (tuple(map(int, v.split("."))) for v in SUPPORTED[package])
    tested = sorted(tuple(map(int, pin.rstrip(".").split("."))) for pin in pins)
    assert tested[0] == first[: len(tested[0])]
    assert tested[-1][0] == beyond[0]
    assert tested[-1][1] == beyond[1] - 1
