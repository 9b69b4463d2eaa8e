"""Typed settings: frozen pydantic models that refuse unknown keys, read from YAML, TOML or JSON."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from topcoat.errors import UsageError, first_few

SUFFIXES = (".yaml", ".yml", ".toml", ".json")
"""File types that `load_config` reads."""

Model = TypeVar("Model", bound=pydantic.BaseModel)


class StrictModel(pydantic.BaseModel):
    """Base of every record that is read from or written to a file: frozen, and unknown keys are an error."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


def load_config(path: str | Path, cls: type[Model]) -> Model:
    """A YAML, TOML or JSON file as ``cls``; raises `UsageError` if it cannot be read or is not a valid ``cls``."""
    return parse_config(read_mapping(path), cls, source=str(path))


def parse_config(data: object, cls: type[Model], *, source: str) -> Model:
    """Check a plain mapping against ``cls``; ``source`` names it in the `UsageError` that a bad one raises."""
    try:
        return cls.model_validate(data)
    except pydantic.ValidationError as error:
        problems = (_describe(item, cls) for item in error.errors(include_url=False))
        raise UsageError(f"{source}: {first_few(problems, between='; ')}") from None


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The plain mapping in a YAML, TOML or JSON file; raises `UsageError` like `load_config`."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} has no type that is read here; use one of: {', '.join(SUFFIXES)}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); check the path and that it is a text file") from None
    try:
        data = _parse(text, suffix)
    except ValueError as error:  # every parser's error is a ValueError, or is made one in _parse
        detail = " ".join(str(error).split())
        raise UsageError(f"{path} is not valid {suffix[1:].upper()} ({detail}); correct that line") from None
    if not isinstance(data, dict):
        kind = "nothing" if data is None else "a list" if isinstance(data, list) else "a single value"
        raise UsageError(f"{path} must hold named settings (key: value), but it holds {kind}")
    return data


def _parse(text: str, suffix: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    if suffix == ".toml":
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib  # pyright: ignore[reportMissingImports]
        return tomllib.loads(text)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _describe(item: Any, cls: type[pydantic.BaseModel]) -> str:
    """One pydantic error as `where: what is allowed, not what was given`."""
    where = ".".join(str(part) for part in item["loc"]) or "settings"
    if item["type"] == "extra_forbidden":
        allowed = _field_names(cls, item["loc"][:-1])
        close = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
        if close:
            return f"{where}: unknown key, did you mean {close[0]}?"
        return f"{where}: unknown key" + (f", use one of: {', '.join(allowed)}" if allowed else "")
    if item["type"] == "missing":
        return f"{where}: is missing, add it"
    message, given = str(item["msg"]).removeprefix("Value error, "), repr(item["input"])
    given = given if len(given) <= 60 else f"{given[:57]}..."
    return f"{where}: {message[:1].lower()}{message[1:]}, not {given}"


def _field_names(cls: type[pydantic.BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The field names of the (nested) model at ``loc``, or none where that cannot be told."""
    current: Any = cls
    for part in loc:
        kinds = [one for one in typing.get_args(current) if hasattr(one, "model_fields")]
        if kinds:  # a union told apart by its members' kind: here ``part`` is that, not a field
            current = next((one for one in kinds if one.model_fields["kind"].default == part), None)
        else:
            field = getattr(current, "model_fields", {}).get(str(part))
            current = None if field is None else field.annotation
    return list(getattr(current, "model_fields", ()))


def import_named(name: str, what: str, example: str) -> Callable[..., Any]:
    """A function of the user's, named ``module:function``; the module is looked for in the working folder, too.

    ``what`` says what it is for, as in "filter". Raises `UsageError` if there is none.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UsageError(f"the {what} {name!r} is incomplete; write module:function, for example {example}")
    folder = os.getcwd()
    sys.path.insert(0, folder)  # a console script's path lacks the folder that the user stands in
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs a user's code, which may raise anything
        reason = textwrap.shorten(str(error), 200, placeholder="...")
        raise UsageError(
            f"the {what} {name} cannot be imported ({type(error).__name__}: {reason}); check the name, and that the "
            "module lies in this folder or is installed"
        ) from error
    finally:
        sys.path.remove(folder)
    function = module
    for part in function_name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise UsageError(f"the {what} {name} names no function: {module_name} has no callable {function_name}")
    return function
