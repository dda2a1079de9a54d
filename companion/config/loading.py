"""Load the configuration from config.toml and the environment, and explain what is wrong in it."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import tomli
from pydantic import ValidationError

from companion.config.config import Config
from companion.errors import ConfigError

ENV_PREFIX: Final = "COMPANION_"
DEFAULT_FILE: Final = Path("config.toml")
TOO_DEEP: Final = "the values are nested too deeply: no key needs more than a list in a table"


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Read the file (None: `./config.toml`, which need not be there) and the environment (None: os.environ)."""
    file = path or DEFAULT_FILE
    tables = _read_toml(file) if path or file.exists() else {}
    from_environment = _read_environment(os.environ if environment is None else environment)
    for (section, key), value in from_environment.items():
        if key:
            table = tables.setdefault(section, {})
            if isinstance(table, dict):
                _set(table, key, value)
        else:
            tables[section] = value
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, file, from_environment))) from None


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    """Replace a value of the file, also where one has a secret and the other the file that holds it."""
    table.pop(key.removesuffix("_file") if key.endswith("_file") else f"{key}_file", None)
    table[key] = value


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomli.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: {TOO_DEEP}") from None


def _read_environment(environment: Mapping[str, str]) -> dict[tuple[str, str], Any]:
    read: dict[tuple[str, str], Any] = {}
    for name, text in environment.items():
        if name.startswith(ENV_PREFIX):
            section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
            read[section, key] = _value(name, section, key, text)
    return read


def _value(name: str, section: str, key: str, text: str) -> Any:
    """Read a value of the environment: a list as `a, b` or JSON, a whole section as JSON."""
    field = Config.model_fields.get(section)
    inner = getattr(field.annotation, "model_fields", {}).get(key) if field else None
    if inner is not None and "tuple" in str(inner.annotation):
        return _read_list(name, text)
    if field is None or key:
        return text
    try:
        return _read_json(name, text)
    except ValueError:
        raise ConfigError(f"{name}: is not JSON; write a whole section in the environment as JSON") from None


def _read_list(name: str, text: str) -> list[Any]:
    with contextlib.suppress(ValueError):
        read = _read_json(name, text)
        if isinstance(read, list):
            return read
    return [part.strip() for part in text.split(",") if part.strip()]


def _read_json(name: str, text: str) -> Any:
    """Read the JSON of a variable; raise ValueError when it is none."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ConfigError(f"{name}: {TOO_DEEP}") from None


def _explain(error: ValidationError, file: Path, environment: Mapping[tuple[str, str], Any]) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        where = [str(part) for part in problem["loc"]]
        section, key = [*where, "", ""][:2]
        names = {(section, key), (section, "")}
        variable = next((name for name in environment if name in names or (not key and name[0] == section)), None)
        if variable:
            place = ENV_PREFIX + "__".join(filter(None, variable)).upper()
        else:
            place = f"{file}: [{section}] {'.'.join(where[1:])}".rstrip() if section else str(file)
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = "unknown key" if key else "unknown section"
        lines.append(f"{place}: {text}")
    return lines
