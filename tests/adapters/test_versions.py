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


def release(version):
    return tuple(int(number) for number in version.split("."))


def tox_file():
    if not TOX.exists():
        pytest.skip("the tests run outside the repository")
    return TOX.read_text()


@pytest.mark.parametrize(
    ("package", "first", "beyond"),
    [*((package, *ends) for package, ends in SUPPORTED.items()), ("torch", "2.2", "2.14")],
)
def test_the_ranges_are_those_that_tox_runs(package, first, beyond):
    requirements = (r.partition(";")[0].strip() for r in metadata.requires("foolart") or [])
    assert any(set(r.removeprefix(package).split(",")) == {f">={first}", f"<{beyond}"}
               for r in requirements)  # fmt: skip
    pins = re.findall(rf"{package}==([\d.]+\d)", tox_file())
    tested = sorted(map(release, pins))
    assert tested[0] == release(first)[: len(tested[0])]
    assert tested[-1][:2] == (release(beyond)[0], release(beyond)[1] - 1)


def test_python_and_numpy_are_those_that_tox_runs():
    text = tox_file()
    names = re.findall(r"py(?:\{([\d,]+)\}|(\d+))-", text.partition("labels =")[0])
    tested = {release(f"3.{minor[1:]}") for some in names for minor in "".join(some).split(",")}
    about = metadata.metadata("foolart")
    classifiers = [c.rpartition(" ")[2] for c in about.get_all("Classifier") or []]
    assert tested == {release(c) for c in classifiers if re.fullmatch(r"3\.\d+", c)}
    assert about["Requires-Python"] == f">=3.{min(tested)[1]}"
    (numpy,) = (r for r in metadata.requires("foolart") or [] if r.startswith("numpy"))
    assert set(numpy.removeprefix("numpy").split(",")) == {">=1.26", "<3"}
    assert {"np1: numpy<2", "np2: numpy>=2"} <= {line.strip() for line in text.splitlines()}
