"""Builds the stages of a run without Prefect, and notes which functions of ours run in each: a program of its own.

`python stage_trace.py STORE OVERRIDES.json` prints, as JSON, maker -> [module, line of a function's `def`] of what ran.
"""

import ast
import builtins
import importlib.machinery
import json
import sys
from itertools import cycle
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

OURS = ("dr_irl", "tasks")


class _Noting(ast.NodeTransformer):
    """Lets each function say first that it runs."""

    def __init__(self, module: str) -> None:
        self._module = module

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.body.insert(0, ast.parse(f"__ran__({self._module!r}, {node.lineno})").body[0])
        return node


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        tree = _Noting(fullname).visit(ast.parse(Path(self.path).read_text()))
        return compile(ast.fix_missing_locations(tree), self.path, "exec")


class _Finder:
    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name.split(".")[0] not in OURS or (spec := importlib.machinery.PathFinder.find_spec(name, path)) is None:
            return None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin)
        return spec


def trace_run(uri: str, overrides: dict[str, Any]) -> dict[str, list[tuple[str, int]]]:
    """Build every stage of the smoke profile, and return maker -> what ran."""
    ran: dict[str, dict[tuple[str, int], None]] = {}
    maker = ""
    builtins.__ran__ = lambda *place: ran.setdefault(maker, {}).update({place: None})  # pyright: ignore[reportAttributeAccessIssue]
    sys.meta_path.insert(0, _Finder())  # pyright: ignore[reportArgumentType]
    from dr_irl.artifacts import Store
    from dr_irl.profile import load_settings
    from dr_irl.progress import ConsoleProgress
    from tasks.dag import build_dag
    from tasks.job import Inputs, Job
    from tasks.models import check_policy
    from tasks.orchestration.caching import import_maker
    from tasks.orchestration.interruption import StoppableProgress
    from tasks.orchestration.progress import PageProgress

    store, settings = Store(uri), load_settings("smoke", overrides)
    check_policy(settings)  # as every run does first: what looks at the model belongs to no stage
    refs, listeners = {}, cycle([PageProgress(), ConsoleProgress()])
    for name, node in build_dag(settings).items():
        inputs = {role: refs[source] for role, source in node.inputs.items()}
        identity = node.stage.identity(settings, node.variant, inputs)
        refs[name] = ref = store.ref(identity.stage, identity.fingerprint)
        progress = StoppableProgress(next(listeners))
        make = import_maker(node.stage)
        with store.build(identity) as folder:
            maker = node.stage.make
            make(folder, Job(settings, Inputs(store, inputs), node.variant, progress, store.checkpoint(ref)))
            maker = ""
    ran.pop("")
    return {maker: list(found) for maker, found in ran.items()}


if __name__ == "__main__":
    print(json.dumps(trace_run(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))))
