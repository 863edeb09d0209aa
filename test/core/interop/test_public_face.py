"""The names of `hrda_core.interop`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hrda_core import interop


def test_every_public_name_is_there_and_sorted() -> None:
    assert interop.__all__ == sorted(interop.__all__)
    assert all(getattr(interop, name).__name__ == name for name in interop.__all__)
    with pytest.raises(AttributeError, match="load_mmsegg"):
        interop.load_mmsegg  # noqa: B018


def test_the_process_that_opens_untrusted_files_loads_no_networks() -> None:
    code = "import sys, hrda_core.interop.restricted_unpickling; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=240).returncode == 0
