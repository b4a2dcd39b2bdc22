"""The tests under a limit on the processor's instructions: make test ISA=avx2."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDS_MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ISA")


def asked(*words):
    """What make would run, also where the tests themselves were begun by make with settings of its own."""
    env = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    command = ["make", "-n", "test", *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@NEEDS_MAKE
@pytest.mark.parametrize("name", ["avx2", "sse"])
def test_a_limit_sets_every_variable(name):
    command = asked(f"ISA={name}").stdout.splitlines()[-1]
    for variable in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "OPENBLAS_CORETYPE"):
        assert re.search(rf"(^| ){variable}=\w+ .*pytest", command), variable
        assert f" {variable}=" not in f" {asked().stdout}"


@NEEDS_MAKE
def test_a_limit_that_there_is_not():
    done = asked("ISA=mmx")
    assert done.returncode == 2
    assert "ISA=mmx: there is no such limit; use ISA=avx2 or ISA=sse." in done.stderr


PROBE = """
import os, runpy, sys, torch
sys.path.append("tests/support")
runpy.run_path("tests/conftest.py")
print(torch.ops.mkldnn._is_mkldnn_bf16_supported(), torch.backends.cpu.get_cpu_capability())
print(os.environ.get("ONEDNN_MAX_CPU_ISA"))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the limits are of x86-64")
def test_torch_keeps_to_the_limit_and_openvino_does_not_see_it():
    limit = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **limit}, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["False", "DEFAULT", "None"]
