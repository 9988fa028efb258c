"""What holds for every test: eight virtual CPU devices, no network, and compiled programs kept from one run to the next.

On an accelerator (`make test-fast`, or JAX_PLATFORMS=cuda) it is the devices that there are, exact products, and the same bits each time.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys

import hypothesis
import pytest


def _cpu_name() -> str:
    """Returns a short name of this processor and its instructions: a program compiled for another one may crash here."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        told = "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        told = platform.processor()
    return hashlib.sha256((platform.machine() + told).encode()).hexdigest()[:12]


def _platform() -> str:
    """Returns where the tests run: on the CPU unless JAX_PLATFORMS says otherwise; where it is empty, on what JAX finds."""
    if os.environ.setdefault("JAX_PLATFORMS", "cpu"):
        return os.environ["JAX_PLATFORMS"]
    asks = "import jax; print(jax.default_backend())"  # elsewhere: here, flags can no longer be set once JAX has looked
    found = subprocess.run([sys.executable, "-c", asks], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
    if found == "cpu":
        os.environ["JAX_PLATFORMS"] = found
    return found


# Before JAX is imported, and in the environment, so that processes that tests start have the same.
_CACHE = pathlib.Path(__file__).parents[1] / ".cache" / "jax" / _cpu_name()
_PLATFORM = _platform()
_FLAGS = {}
if _PLATFORM == "cpu":
    _FLAGS = {
        "xla_force_host_platform_device_count": "8",
        # Most programs run once: compiled in a third of the time. What optimised programs compute is told by every run's summary.
        "xla_backend_optimization_level": "0",
        "xla_llvm_disable_expensive_passes": "true",
    }
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        _FLAGS["xla_cpu_use_fusion_emitters"] = "false"  # newer versions do not know it, and an unknown flag ends the process
else:
    if "tpu" not in _PLATFORM:
        _FLAGS = {"xla_gpu_deterministic_ops": "true"}  # else sums by atomic adds differ from run to run
    # By default, products of float32 are rounded to TF32 on GPUs and to bfloat16 on TPUs: a thousand times what the tests allow.
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes share its memory
_SET = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join([_SET, *(f"--{name}={value}" for name, value in _FLAGS.items() if f"--{name}=" not in _SET)])
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Else a false alarm for every program that comes from the cache: tuning hints are taken for instructions (jax#38445).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")

# Compilation makes any deadline meaningless; on CI the same examples are drawn each time.
hypothesis.settings.register_profile("arl", deadline=None, derandomize="CI" in os.environ, print_blob=True)
hypothesis.settings.load_profile("arl")


def pytest_xdist_auto_num_workers(config) -> int | None:
    """Returns how many processes run tests: as many as asked for, but this one alone on a TPU, which they cannot share."""
    return 0 if "tpu" in _PLATFORM else None


@pytest.fixture(autouse=True, scope="module")
def programs():
    """Drops a file's compiled programs at its end: a process can map only so many."""
    yield
    import jax

    jax.clear_caches()
