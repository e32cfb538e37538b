"""Where things are."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SDK = ROOT / "tests" / "sdk"
CACHE = ROOT / "tests" / ".cache"
VENV = CACHE / "venv"
LOOM = ROOT / "tests" / "loom"
SIMULATION = ROOT / "tests" / "simulation"
