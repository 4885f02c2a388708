"""What Pydantic found wrong with settings, as one sentence per setting."""

from typing import Any

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Write one line per setting; a setting of several types has one problem per type, all in its line."""
    problems: dict[str, dict[str, list[str]]] = {}
    for detail in error.errors():
        name, subject, problem = _problem(detail, root)
        problems.setdefault(name, {}).setdefault(subject, []).append(problem)
    return [
        f"{subject}{', or '.join(found)}" for by_subject in problems.values() for subject, found in by_subject.items()
    ]


def _problem(detail: Any, root: type[BaseModel]) -> tuple[str, str, str]:
    """Return the setting's name, how its line starts, and what is wrong."""
    section, path = _locate(detail["loc"], root)
    name = ".".join(path)
    is_item = bool(path) and path[-1].isdecimal()
    match detail["type"]:
        case "extra_forbidden":
            return name, f"setting {name!r} is unknown; ", f"allowed here: {', '.join(section.model_fields)}"
        case "missing" if is_item:
            return name, f"setting {'.'.join(path[:-1])} = {detail['input']!r}: ", f"item {path[-1]} is missing"
        case "missing":
            return name, f"setting {name!r} ", "is missing from the profile"
        case "value_error":  # a rule between settings: its words name them and their values
            return name, f"setting {name}: " if name else "", str(detail["ctx"]["error"])
        case "model_type":
            return name, f"setting {name} = {detail['input']!r}: ", "a section of named settings is needed"
    return name, f"setting {name} = {detail['input']!r}: ", _allowed(detail)


def _allowed(detail: Any) -> str:
    """Say what is allowed instead, in words of ours for everything that settings can be."""
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "int_type" | "int_parsing" | "int_from_float":
            return "a whole number is needed"
        case "float_type" | "float_parsing" | "finite_number":
            return "a number is needed"
        case "bool_type" | "bool_parsing":
            return "true or false is needed"
        case "string_type":
            return "text is needed; quote it"
        case "tuple_type" | "list_type":
            return f"a list is needed; write [{detail['input']}]"
        case "dict_type":
            return "names with values are needed; write {name: value}"
        case "too_short":
            return f"{limits['min_length']} or more items are needed"
        case "too_long":
            return f"{limits['max_length']} items at most are allowed"
        case "greater_than":
            return f"more than {limits['gt']:g} is allowed"
        case "greater_than_equal":
            return f"{limits['ge']:g} or more is allowed"
        case "less_than":
            return f"less than {limits['lt']:g} is allowed"
        case "less_than_equal":
            return f"{limits['le']:g} or less is allowed"
        case "literal_error":
            return f"allowed is {limits['expected']}"
    raise AssertionError(f"a setting is of a kind without words: {detail['type']}")


def _locate(location: tuple[int | str, ...], section: type[BaseModel]) -> tuple[type[BaseModel], list[str]]:
    """Split Pydantic's location, seen from `section`, into the section it lies in and the setting's plain path.

    Below a setting only the numbers of items count: words there are Pydantic's names of the alternatives of a type.
    """
    path: list[str] = []
    for depth, part in enumerate(location, start=1):
        path.append(str(part))
        field = section.model_fields.get(str(part))
        annotation = None if field is None else field.annotation
        if depth == len(location) or not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            path += [str(item) for item in location[depth:] if isinstance(item, int)]
            break
        section = annotation
    return section, path
