"""The package: `claf2` itself, with the BaseConfigs and the task tables inside it."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "claf2/__init__.py").read_text(encoding="utf-8"))
assert VERSION is not None

setup(
    name="claf2",
    version=VERSION[1],
    description="Fine-tuning of language encoders with fixed, published recipes and scores that can be trusted",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11.4,<3.13",
    packages=[*find_packages(include=["claf2", "claf2.*"]), "claf2.base_config", "claf2.tasks"],
    package_dir={"claf2": "claf2", "claf2.base_config": "base_config", "claf2.tasks": "tasks"},
    package_data={
        "claf2": ["py.typed"],
        "claf2.base_config": ["**/*.json", "**/*.jsonnet", "**/*.libsonnet"],
        "claf2.bench": ["assets/*.html", "assets/*.css", "assets/*.js", "assets/*.txt"],
    },
    install_requires=[
        "click>=8",
        "jsonnet>=0.20",
        "numpy>=1.26",
        "pyarrow>=15",
        "pydantic>=2.7,<3",
        "safetensors>=0.4",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "seqeval>=1.2.2",
        "tensorboard>=2.15",
        "tokenizers>=0.22",
        "torch>=2.5",
        "tqdm>=4.66",
        "transformers>=5,<6",
    ],
    extras_require={
        "ko": ["kiwipiepy>=0.20"],
        "ja": ["fugashi>=1.3", "unidic-lite>=1.0.8"],
        "hub": ["huggingface_hub>=1"],
        "test": ["build>=1", "hypothesis>=6", "pytest>=8", "pytest-xdist>=3.5", "setuptools>=77", "wheel>=0.43"],
        "bench": ["accelerate>=1"],
        "browser": ["playwright>=1.50"],
        "ray": ["ray>=2"],
        "dev": ["mypy>=1.11", "pre-commit>=3", "ruff>=0.9"],
    },
    entry_points={"console_scripts": ["claf2 = claf2.cli:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
