"""Digests of what makes a video, and names of what it is made with."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipelines.storage import sha256_file

_BESIDE_THE_UNET = ("model_index.json", "unet/*.json", "scheduler/*", "vae/*", "text_encoder*/*", "tokenizer*/*")
_READ = (".json", ".txt", ".model", ".safetensors")
_PACKAGES = ("lumiere", "torch", "diffusers", "transformers")


def file_digest(path: Path) -> str:
    """sha256 of a file; read once a process while its size and time of change stay as they are."""
    facts = path.stat()
    return _digest(str(path), facts.st_size, facts.st_mtime_ns)


@cache
def _digest(path: str, size: int, changed_ns: int) -> str:
    return sha256_file(Path(path))


def rest_digest(backbone: Path) -> str:
    """sha256 over the names and digests of a diffusers folder's files beside the U-Net's weights: VAE, text encoders,
    tokenizers, schedule.
    """
    found = {file for pattern in _BESIDE_THE_UNET for file in backbone.glob(pattern) if file.suffix in _READ}
    whole = hashlib.sha256()
    for file in sorted(found):
        whole.update(f"{file.relative_to(backbone).as_posix()} {file_digest(file)}\n".encode())
    return whole.hexdigest()


def versions() -> Mapping[str, str | None]:
    """Of this project and of what computes for it; None where a package is not installed."""
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
