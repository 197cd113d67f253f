"""Find the subpackages below the three folders, so that none is missing from the wheel."""

from setuptools import find_packages, setup

FOLDERS = ["plugins", "adapters", "evaluation"]
found = find_packages(include=[pattern for name in FOLDERS for pattern in (name, f"{name}.*")])
setup(packages=["foolart", *(f"foolart.{name}" for name in found)])
