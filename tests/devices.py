"""Runs a test program in a process of its own, on as many virtual CPU devices as it wants."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def environment(devices: int) -> dict[str, str]:
    """This process's environment, with `devices` virtual CPU devices."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }


def run_program(module: str, *arguments: str, devices: int = 8):
    """Runs `python -m module arguments` and returns the JSON that its last line of output is."""
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env=environment(devices),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])
