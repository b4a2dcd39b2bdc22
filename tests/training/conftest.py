"""Many training runs in one child process, which imports torch once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("run_tiny.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
if "TORCH_ONEDNN_MAX_CPU_ISA" in os.environ:  # kept from OpenVINO, which does not run in these processes
    ENVIRONMENT["ONEDNN_MAX_CPU_ISA"] = os.environ["TORCH_ONEDNN_MAX_CPU_ISA"]

Plan = Callable[[Path, list[dict[str, Any]]], tuple[list[list[dict[str, Any]]], str]]


@pytest.fixture(scope="session")
def run_plan() -> Plan:
    """Return a function that runs cases of ``run_tiny.py`` and returns their results and output."""

    def run(folder: Path, cases: list[dict[str, Any]]) -> tuple[list[list[dict[str, Any]]], str]:
        plan, results, message = folder / "plan.json", folder / "results.json", folder / "said.txt"
        plan.write_text(json.dumps(cases))
        # to a file, not a pipe: the workers of a killed run would hold a pipe open for some seconds
        with open(message, "wb") as file:
            command = [sys.executable, str(SCRIPT), str(plan), str(results)]
            code = subprocess.run(
                command, stdout=file, stderr=file, env=ENVIRONMENT, timeout=500, check=False
            ).returncode
        assert code == 0, message.read_text()[-3000:]
        return json.loads(results.read_text()), message.read_text()

    return run
