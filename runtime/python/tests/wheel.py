#!/usr/bin/env python3
"""Packs the wheel of a build, installs it into an empty environment and runs the README's lines there.

Entry: wheel.py BUILD, with PyPI in reach. Exit: status 1 if a step fails. What is installed knows nothing of the tree.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
#: The library's folder is not asked for: whoever uses a wheel has set none of these.
UNSET = ("PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "WINNOW_NVRTC")


def readme_lines():
    """The Python of the README."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    if len(blocks) != 1:
        sys.exit(f"README.md has {len(blocks)} blocks of Python, not one")
    return blocks[0]


def main():
    packed = subprocess.run([ROOT / "tools/wheel.sh", sys.argv[1]], capture_output=True, text=True)
    if packed.returncode:
        sys.exit(packed.stderr)
    wheel = packed.stdout.split()[-1]
    numpy = next(line for line in (ROOT / "tools/requirements.txt").read_text().split() if line.startswith("numpy"))
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    with tempfile.TemporaryDirectory() as folder:
        environment["WINNOW_CACHE_DIR"] = f"{folder}/cache"
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/venv"], check=True)
        python = f"{folder}/venv/bin/python"
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, numpy], check=True)
        subprocess.run([python, "-c", readme_lines()], cwd=folder, env=environment, check=True)
        subprocess.run([python, "-c", "import winnow, json; print(json.dumps(winnow.doctor(), indent=1))"], cwd=folder,
                       env=environment, check=True)


if __name__ == "__main__":
    main()
