"""Rounding noise in every product of matrices that `routing` computes, as another processor would round."""

import ast
import inspect
import operator
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest

NOISY = "_noisy_product"


class _Products(ast.NodeTransformer):
    """Writes ``_noisy_product(a, b)`` for ``a @ b``."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.MatMult):
            return node
        return ast.copy_location(ast.Call(ast.Name(NOISY, ast.Load()), [node.left, node.right], []), node)


def inject_noise(monkeypatch: pytest.MonkeyPatch, seed: int, by: float = 1e-7) -> int:
    """Make every product of `routing` inexact by a relative error up to `by`; return in how many functions."""
    rng = np.random.default_rng(seed)

    def noisy(left: Any, right: Any) -> Any:
        exact = operator.matmul(left, right)
        return (exact * (1 + rng.uniform(-by, by, np.shape(exact)))).astype(exact.dtype)

    n_functions = 0
    for module in [one for name, one in list(sys.modules.items()) if name.startswith("routing.")]:
        tree = ast.fix_missing_locations(_Products().visit(ast.parse(inspect.getsource(module))))
        codes = dict(_codes(compile(tree, str(module.__file__), "exec", dont_inherit=True)))
        for function in list(_functions(module)):
            code = codes.get(function.__qualname__)
            if code is not None and NOISY in code.co_names:
                monkeypatch.setattr(module, NOISY, noisy, raising=False)
                monkeypatch.setattr(function, "__code__", code)
                n_functions += 1
    return n_functions


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    yield code.co_qualname, code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for one in list(vars(module).values()):
        parts: list[Callable[..., Any]] = list(vars(one).values()) if inspect.isclass(one) else [one]
        for part in parts:
            for name in ("__func__", "fget", "func"):  # of class methods, properties and cached properties
                part = getattr(part, name, part)
            if inspect.isfunction(part) and part.__module__ == module.__name__:
                yield part
