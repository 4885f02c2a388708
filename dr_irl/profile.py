"""Reads settings: a profile, shipped or a YAML file, with dotted overrides on top."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import ValidationError

from dr_irl.artifacts.address import require_no_secret
from dr_irl.config import Settings
from dr_irl.errors import SettingsError
from dr_irl.setting_errors import explain

Shipped = Literal["smoke", "demo", "laptop", "paper", "rehearse-pass", "rehearse-fail"]
"""The profiles of this package: one YAML file each, in `profiles/`."""
PROFILES: tuple[str, ...] = get_args(Shipped)
_EXTENDS = "extends"


class _Loader(yaml.SafeLoader):
    """Reads plain values; a name that is said twice in one mapping is an error, where YAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for name in (name for name, _ in node.value if isinstance(name, yaml.ScalarNode)):
            if name.value in seen:
                problem = f"{name.value!r} is there twice; say it once"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=name.start_mark)
            seen.add(name.value)
        return super().construct_mapping(node, deep)


def load_settings(profile: str, overrides: dict[str, Any] | None = None) -> Settings:
    """Read a profile and apply dotted overrides such as `{"grpo.steps": 20}`.

    Args:
        profile: one of `PROFILES`, or the path of a YAML file; either may say `extends: PROFILE`, a path seen from its
            own folder, and then give only what differs.
        overrides: dotted setting name -> value; text is read as YAML.

    Raises:
        SettingsError: every problem found, one per line, with the value seen and what is allowed.
    """
    values = _read_profile(profile)
    values["profile"] = Path(profile).stem
    for name, value in (overrides or {}).items():
        _assign(values, name, _parse(value, f"setting {name}") if isinstance(value, str) else value)
    for name, text in _texts(values):  # before anything shows or keeps them
        require_no_secret(text, f"setting {name}", SettingsError)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(explain(error, Settings))) from None


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Give every text among settings, with the dotted name of its setting."""
    if isinstance(value, str):
        yield name, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for part, below in parts:
        yield from _texts(below, f"{name}.{part}" if name else str(part))


def parse_overrides(assignments: list[str]) -> dict[str, Any]:
    """Turn `["grpo.steps=20"]` into `{"grpo.steps": 20}`, ready for `load_settings`; text stays as it was written.

    Raises:
        SettingsError: an item has no `=` or its value is no YAML.
    """
    parsed: dict[str, Any] = {}
    for item in assignments:
        name, separator, text = item.partition("=")
        if not separator or not name:
            raise SettingsError(f"--set {item!r}: write SECTION.NAME=VALUE, for example --set grpo.steps=20")
        value = _parse(text, f"--set {item!r}")
        # `load_settings` reads text as YAML: reading it here too would strip the quotes of '"123"' and make a number.
        parsed[name.strip()] = text if isinstance(value, str) else value
    return parsed


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.constructor.ConstructorError as error:
        raise SettingsError(f"{where}: {text!r}: {error.problem}") from None
    except (yaml.YAMLError, ValueError):  # a day that no calendar has is a ValueError
        raise SettingsError(f"{where}: {text!r} is no YAML value; quote it") from None


def _read_profile(profile: str, within: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a profile and those that it extends, the nearest last.

    Args:
        profile: as for `load_settings`.
        within: the profiles that extend this one, the outermost first.
    """
    if profile in within:
        raise SettingsError(f"profile {profile!r} extends itself: {' -> '.join([*within, profile])}")
    values = _parse_profile(profile)
    if (base := values.pop(_EXTENDS, None)) is None:
        return values
    if not isinstance(base, str):
        raise SettingsError(f"profile {profile!r}: extends = {base!r}; give {_known()}")
    if base not in PROFILES:  # a path in a file is seen from that file
        base = str(Path(profile).parent / base)
    return _merged(_read_profile(base, (*within, profile)), values)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Put the changes over the base, section by section."""
    merged = dict(base)
    for name, value in changes.items():
        below = merged.get(name)
        merged[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _known() -> str:
    return f"{', '.join(PROFILES)}, or the path of a YAML file"


def _parse_profile(profile: str) -> dict[str, Any]:
    if profile in PROFILES:
        text = (files("dr_irl") / "profiles" / f"{profile}.yaml").read_text(encoding="utf-8")
    elif Path(profile).suffix in (".yaml", ".yml") and Path(profile).is_file():
        text = _read_text(Path(profile))
    else:
        raise SettingsError(f"profile {profile!r} is unknown; allowed are {_known()}")
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise SettingsError(f"profile {profile!r} is no YAML: {error}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"profile {profile!r} must be a mapping of sections, not {type(values).__name__}")
    return values


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"profile {str(path)!r} cannot be read as UTF-8 text: {error}") from None


def _assign(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, leaf = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise SettingsError(f"setting {name!r}: {section!r} is a value, not a section")
    below = values.get(leaf)
    values[leaf] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
