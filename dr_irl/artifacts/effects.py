"""Which statements at the top of a module act when it is imported, beyond defining something there."""

import ast
from collections.abc import Callable, Iterable

Names = Callable[[str], str]
"""A name with its attributes, as a module writes it -> in full: `field` -> `dataclasses.field`."""

_NAMES = {
    "builtins": "bool bytes classmethod dict enumerate float frozenset int len list map max min object property range "
    "reversed round set slice sorted staticmethod str sum super tuple zip bytes.fromhex dict.fromkeys str.maketrans",
    "abc": "abstractmethod",
    "collections": "Counter defaultdict",
    "contextlib": "contextmanager",
    "contextvars": "ContextVar",
    "dataclasses": "dataclass field",
    "dr_irl.registry": "Registry",
    "functools": "cache cached_property lru_cache partial wraps",
    "importlib.metadata": "version",
    "logging": "getLogger",
    "pathlib": "Path",
    "pyarrow": "bool_ float64 int64 list_ string",
    "pydantic": "ConfigDict Field field_validator model_validator",
    "re": "compile",
    "threading": "Event Lock",
    "torch": "inference_mode no_grad",
    "typing": "NewType ParamSpec TypeVar cast final get_args overload runtime_checkable",
}
_HARMLESS = {f"{module}.{name}".removeprefix("builtins.") for module, names in _NAMES.items() for name in names.split()}
"""What may be called, or decorate, without touching anything but the module that does it. It reads no annotations of
functions either."""


def acts(statement: ast.stmt, full: Names) -> bool:
    """Tell whether a statement at the top of a module or class may do more than define something there."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(value=ast.Constant()):
            return False
        case (
            ast.FunctionDef(decorator_list=decorators, args=given)
            | ast.AsyncFunctionDef(decorator_list=decorators, args=given)
        ):
            return _decorate(decorators, full) or _call([*given.defaults, *filter(None, given.kw_defaults)], full)
        case ast.ClassDef(decorator_list=decorators, keywords=keywords, bases=bases, body=body):
            odd = bool(keywords) or _decorate(decorators, full) or _call(bases, full)
            return odd or any(acts(each, full) for each in body)
        case ast.Assign(targets=targets, value=value):
            return not all(_is_plain(target) for target in targets) or _call([value], full)
        case ast.AnnAssign(target=target, value=value) | ast.AugAssign(target=target, value=value):
            return not _is_plain(target) or (value is not None and _call([value], full))
        case _:
            return True


def is_harmless(callee: ast.AST, full: Names) -> bool:
    """Tell whether it is known of a function or decorator that it touches nothing else, and reads no annotations."""
    if isinstance(callee, ast.Call):
        return is_harmless(callee.func, full)
    if isinstance(callee, ast.Attribute) and isinstance(callee.value, ast.Constant):
        return True  # a method of a text
    chain = chain_of(callee)
    return full(chain) in _HARMLESS or chain.endswith((".setter", ".deleter"))


def chain_of(node: ast.AST) -> str:
    """Return `a.b.c` of an expression that is a name with attributes; empty for others."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := chain_of(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _decorate(decorators: Iterable[ast.expr], full: Names) -> bool:
    return any(not is_harmless(each, full) for each in decorators) or _call(decorators, full)


def _call(expressions: Iterable[ast.expr], full: Names) -> bool:
    """Tell whether something is called of which it is not known that it is harmless."""
    calls = (node for each in expressions for node in ast.walk(each) if isinstance(node, ast.Call))
    return any(not is_harmless(call.func, full) for call in calls)


def _is_plain(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(_is_plain(each) for each in target.elts)
    return isinstance(target, ast.Name)
