"""Run an `hrda` command and write down which packages our own code imports; some of them can be missing.

    python watched_command.py OUT.json BLOCKED,BLOCKED VERB ARGUMENT...

What other packages import for themselves is not ours to state, and does not count. Exit status: the command's.
"""

from __future__ import annotations

import builtins
import importlib
import json
import sys
from pathlib import Path
from typing import Any

OWN = ("hrda_core", "hrda_ros", "hrda_training")


def main(out: Path, blocked: list[str], command: list[str]) -> int:
    """Run the command and write the sorted names of the packages."""
    asked: set[str] = set()
    real_import, real_module = builtins.__import__, importlib.import_module

    def watched_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        module = real_import(name, globals, locals, fromlist, level)
        if not level and (globals or {}).get("__name__", "").partition(".")[0] in OWN:
            asked.add(name.partition(".")[0])
        return module

    def watched_module(name: str, package: str | None = None) -> Any:
        module = real_module(name, package)
        if sys._getframe(1).f_globals["__name__"].partition(".")[0] in OWN:
            asked.add(name.partition(".")[0])
        return module

    for name in blocked:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it raises ModuleNotFoundError
    builtins.__import__, importlib.import_module = watched_import, watched_module
    from hrda_training.__main__ import main as hrda

    status = hrda(command)
    out.write_text(json.dumps(sorted(asked - set(OWN) - sys.stdlib_module_names)))
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [name for name in sys.argv[2].split(",") if name], sys.argv[3:]))
