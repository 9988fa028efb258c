"""What holds for every test: eight virtual CPU devices, no network, and compiled programs kept from one run to the next."""

import hashlib
import os
import pathlib
import platform

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


# Before JAX is imported, and in the environment, so that processes that tests start have the same.
_CACHE = pathlib.Path(__file__).parents[1] / ".cache" / "jax" / _cpu_name()
_FLAGS = {
    "xla_force_host_platform_device_count": "8",
    # Most programs run once: compiled in a third of the time. What optimised programs compute is told by every run's summary.
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_use_fusion_emitters": "false",
}
_SET = os.environ.get("XLA_FLAGS", "")
os.environ["XLA_FLAGS"] = " ".join([_SET, *(f"--{name}={value}" for name, value in _FLAGS.items() if f"--{name}=" not in _SET)])
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Else a false alarm for every program that comes from the cache: tuning hints are taken for instructions (jax#38445).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")

# Compilation makes any deadline meaningless; on CI the same examples are drawn each time.
hypothesis.settings.register_profile("arl", deadline=None, derandomize="CI" in os.environ, print_blob=True)
hypothesis.settings.load_profile("arl")


@pytest.fixture(autouse=True, scope="module")
def programs():
    """Drops a file's compiled programs at its end: a process can map only so many."""
    yield
    import jax

    jax.clear_caches()
