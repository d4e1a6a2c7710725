"""Formulas in strangers' files: arithmetic only, never executed as a program."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

LONGEST = 1000
DEEPEST = 100
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "Abs": np.abs,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
}
CONSTANTS = {"pi": np.pi, "E": np.e}


def evaluated(expression: str, names: Mapping[str, Any]) -> np.ndarray | None:
    """Values of a formula for every element of the array ``x``; `None` if it is more than arithmetic, or not finite.

    Parameters
    ----------
    expression
        Numbers, names, ``+ - * / **``, brackets, and functions such as `sqrt` and `exp`.
    names
        Their values: numbers, and the array ``x``.

    Examples
    --------
    >>> evaluated("a * x**2 + sqrt(4)", {"a": 0.5, "x": np.arange(3.0)})
    array([2. , 2.5, 4. ])
    >>> evaluated("__import__('os')", {"x": np.arange(3.0)}) is None
    True
    """
    floats = {name: np.asarray(value, dtype="f8") for name, value in {**CONSTANTS, **names}.items()}
    if len(expression) > LONGEST:
        return None
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        with np.errstate(all="ignore"):
            values = np.broadcast_to(_value(tree.body, floats), floats["x"].shape)
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError):
        return None
    return values if np.isfinite(values).all() else None


def _value(node: ast.AST, names: Mapping[str, np.ndarray], deep: int = 0) -> Any:
    if deep > DEEPEST:
        raise ValueError("too deep")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return np.float64(number)
        case ast.Name(id=name):
            return names[name]
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_value(left, names, deep + 1), _value(right, names, deep + 1))
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_value(operand, names, deep + 1))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            return FUNCTIONS[name](_value(argument, names, deep + 1))
    raise ValueError("not arithmetic")
