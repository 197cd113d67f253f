"""What not every supported release of a toolkit has."""

from __future__ import annotations

import foolbox
import pytest

needs_fmn = pytest.mark.skipif(
    not hasattr(foolbox.attacks, "L2FMNAttack"), reason="Foolbox has FMN since 3.3.2"
)
