"""Expressions that choose entries, such as ``beam_energy > 80 and 'gold' in name``; parsed by us, never run."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError

LONGEST = 2000  # characters
DEEPEST = 40  # operators within operators

Facts = Mapping[str, Any]
Evaluate = Callable[[Facts], Any]


@dataclass(frozen=True)
class Expression:
    """A condition on facts.

    Parameters
    ----------
    text
        As it was written.
    names
        The facts that it asks for.
    """

    text: str
    names: frozenset[str]
    _evaluate: Evaluate

    def matches(self, facts: Facts) -> bool:
        """Whether facts fulfil the condition; what is not known fulfils none, but ``== None``."""
        return bool(self._evaluate(facts))


def parse(text: str) -> Expression:
    """Read a condition.

    Parameters
    ----------
    text
        Comparisons (``== != < <= > >= in``) of facts, numbers, texts and lists, joined by ``and``, ``or`` and ``not``.
        Members of facts are ``shape[0]``, ``spacing.y``. The case of texts makes no difference.

    Raises
    ------
    ArgumentError
        If it is anything else.

    Examples
    --------
    >>> parse("beam_energy > 80 and 'gold' in name").matches({"beam_energy": 200.0, "name": "Gold_3"})
    True
    >>> parse("shape[-1] == 256 or dtype in ['uint8', 'uint16']").matches({"shape": [9, 128], "dtype": "float32"})
    False
    >>> parse("__import__('os').system('ls')")
    Traceback (most recent call last):
        ...
    intake_emio.errors.ArgumentError: "__import__('os').system('ls')": calls are not understood...
    """
    if len(text) > LONGEST:
        raise ArgumentError(f"an expression of {len(text)} characters is too long: at most {LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, on odd text
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f", character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ArgumentError(f"{text!r}: {reason}{where}. {HELP}") from None
    return Expression(text, *_Reader(text).read(tree.body))


HELP = "Write conditions such as: beam_energy > 80 and 'gold' in name"


class _Reader:
    """Turns a syntax tree into functions, and refuses everything that is no condition."""

    def __init__(self, text: str):
        self.text = text
        self.names: set[str] = set()

    def read(self, node: ast.expr) -> tuple[frozenset[str], Evaluate]:
        evaluate = self._node(node, 0)
        return frozenset(self.names), evaluate

    def _node(self, node: ast.expr, depth: int) -> Evaluate:
        if depth > DEEPEST:
            raise ArgumentError(f"{self.text!r}: operators are nested more than {DEEPEST} deep")
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return lambda facts: value
            case ast.Name(id=name):
                self.names.add(name)
                return lambda facts: facts.get(name)
            case ast.List(elts=members) | ast.Tuple(elts=members):
                parts = [self._node(one, depth + 1) for one in members]
                return lambda facts: [part(facts) for part in parts]
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda facts: -number
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self._node(operand, depth + 1)
                return lambda facts: not inner(facts)
            case ast.BoolOp(op=operator, values=values):
                conditions = [self._node(one, depth + 1) for one in values]
                choose = all if isinstance(operator, ast.And) else any
                return lambda facts: choose(condition(facts) for condition in conditions)
            case ast.Compare(left=first, ops=operators, comparators=others):
                return self._comparison([first, *others], operators, depth)
            case ast.Attribute(value=owner, attr=name):
                return _member(self._node(owner, depth + 1), name)
            case ast.Subscript(value=owner, slice=index):
                return self._subscript(owner, index, depth)
        raise ArgumentError(f"{self.text!r}: {_called(node)} are not understood. {HELP}")

    def _subscript(self, owner: ast.expr, index: ast.expr, depth: int) -> Evaluate:
        try:
            key = ast.literal_eval(index)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, str | int):
            raise ArgumentError(f"{self.text!r}: in brackets must be a number or a text. {HELP}")
        return _member(self._node(owner, depth + 1), key)

    def _comparison(self, operands: list[ast.expr], operators: list[ast.cmpop], depth: int) -> Evaluate:
        values = [self._node(one, depth + 1) for one in operands]
        tests = [self._test(operator) for operator in operators]

        def evaluate(facts: Facts) -> bool:
            found = [value(facts) for value in values]
            return all(test(found[k], found[k + 1]) for k, test in enumerate(tests))

        return evaluate

    def _test(self, operator: ast.cmpop) -> Callable[[Any, Any], bool]:
        match operator:
            case ast.Eq() | ast.Is():
                return equal
            case ast.NotEq() | ast.IsNot():
                return lambda a, b: not equal(a, b)
            case ast.Lt():
                return lambda a, b: _less(a, b)
            case ast.LtE():
                return lambda a, b: _less(a, b) or (_comparable(a, b) and equal(a, b))
            case ast.Gt():
                return lambda a, b: _less(b, a)
            case ast.GtE():
                return lambda a, b: _less(b, a) or (_comparable(a, b) and equal(a, b))
            case ast.In():
                return within
            case ast.NotIn():
                return lambda a, b: not within(a, b)
        raise ArgumentError(f"{self.text!r}: this comparison is not understood. {HELP}")


def _called(node: ast.expr) -> str:
    """Name of a kind of expression, for people."""
    kinds = {
        ast.Call: "calls",
        ast.Lambda: "functions",
        ast.BinOp: "calculations",
        ast.UnaryOp: "calculations",
        ast.IfExp: "conditions with if",
        ast.JoinedStr: "texts with braces",
        ast.Constant: "bytes and complex numbers",
    }
    return kinds.get(type(node), f"expressions of the kind {type(node).__name__}")


# Values --------------------------------------------------------------------------------------------------------------


def _member(owner: Evaluate, key: str | int) -> Evaluate:
    def evaluate(facts: Facts) -> Any:
        value = owner(facts)
        match value, key:
            case Mapping(), str():
                return value.get(key)
            case list() | tuple(), int() if -len(value) <= key < len(value):
                return value[key]
        return None

    return evaluate


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _comparable(a: Any, b: Any) -> bool:
    return (_is_number(a) and _is_number(b)) or (isinstance(a, str) and isinstance(b, str))


def equal(a: Any, b: Any) -> bool:
    """Whether two facts are the same: numbers to a millionth, texts whatever their case, lists member by member.

    Examples
    --------
    >>> equal(200, 200.00001), equal("MIB", "mib"), equal([256, 256], (256, 256)), equal("1", 1)
    (True, True, True, False)
    """
    if _is_number(a) and _is_number(b):
        try:
            return math.isclose(a, b, rel_tol=1e-6)
        except OverflowError:  # an integer larger than any float
            return bool(a == b)
    if isinstance(a, str) and isinstance(b, str):
        return a.casefold() == b.casefold()
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


def _less(a: Any, b: Any) -> bool:
    if not _comparable(a, b) or equal(a, b):
        return False
    return bool(a.casefold() < b.casefold()) if isinstance(a, str) else bool(a < b)


def within(a: Any, b: Any) -> bool:
    """Whether a text is part of another one, or something a member of a list, or a key of a mapping."""
    if isinstance(b, str):
        return isinstance(a, str) and a.casefold() in b.casefold()
    return isinstance(b, list | tuple | Mapping) and any(equal(a, one) for one in b)
