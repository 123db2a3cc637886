"""Job configuration: YAML and `key=value` through OmegaConf into frozen, strictly typed pydantic models.

OmegaConf merges and interpolates; pydantic decides what is valid. Unknown keys and wrong types are refused by name.
Nothing here imports torch or Ray, so that a mistake is told within two seconds.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails


class Config(BaseModel):
    """Base of every configuration: frozen, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names each key, what was given and what is expected."""


C = TypeVar("C", bound=Config)


def load_config(model: type[C], file: Path | None, overrides: Sequence[str]) -> C:
    """Read `file` (YAML), lay `key=value` overrides over it and validate.

    Args:
        model: The configuration's class.
        file: A YAML file, or None for the defaults alone.
        overrides: Such as `steps=100` or `filters.still.minimum=0.5`; values are read as YAML.

    Raises:
        ConfigError: The file is missing or no YAML mapping, an override is no `key=value`, a key is unknown or missing,
            or a value has the wrong type or range.
    """
    merged = OmegaConf.merge(_from_file(file), _from_overrides(overrides))
    try:
        values = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{file or 'overrides'}: {error}") from error
    try:
        # JSON mode lets strict validation take lists as tuples and strings as paths, and nothing else.
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        lines = [_describe(model, detail) for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, keys in the order of declaration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def config_hash(config: Config) -> str:
    """First 16 hex digits of the sha256 over the configuration's canonical JSON."""
    canonical = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _from_file(file: Path | None) -> DictConfig:
    if file is None:
        return OmegaConf.create({})
    if not file.is_file():
        raise ConfigError(f"--config {file}: no such file")
    try:
        loaded = OmegaConf.load(file)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"--config {file}: not valid YAML: {error}") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"--config {file}: a mapping of keys to values is expected, a list was given")
    return loaded


def _from_overrides(overrides: Sequence[str]) -> DictConfig:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"argument {override!r}: `key=value` is expected, such as steps=100")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"arguments {' '.join(overrides)}: {error}") from error


def _describe(model: type[Config], detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = ", ".join(_keys_beside(model, detail["loc"]))
        return f"{key}: unknown key; known here: {known}"
    if detail["type"] == "missing":
        return f"{key}: required, but not given"
    message = detail["msg"].removeprefix("Value error, ")
    prefix = f"{key}: " if key else ""
    given = "" if isinstance(detail["input"], dict) else f"; given: {detail['input']!r}"
    return f"{prefix}{message}{given}"


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return ["(nothing)"]
        model = field.annotation
    return list(model.model_fields)
