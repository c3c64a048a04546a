"""The part of commercetools' discount predicates that offers need: written and read back.

Source: Discount Predicate Operators and Field Identifiers, docs.commercetools.com, HTTP API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from promo_ray.offers.scope import Scope, Selection

EVERYTHING = "1 = 1"
GROUPS = "customer.customerGroup.key"
COUNTRIES = "shippingAddress.country"
METHODS = "shippingInfo.shippingMethod.key"
SPEND = "lineItemTotal"
UNITS = "lineItemCount"
EXISTS = "lineItemExists"

_OPERATORS = {"products": "sku in", "categories": "categoriesWithAncestors.key contains any"}
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')
_MARK = re.compile(r"\$(\d+)")
_NONE_OF = re.compile(r"not\(([\w.]+ (?:in|contains any)) \(([$\d, ]+)\)\)")
_ANY_OF = re.compile(r"([\w.]+ (?:in|contains any)) \(([$\d, ]+)\)")


def listed(names: Sequence[str]) -> str:
    """A list of texts, for example `("a", "b")`."""
    return f"({', '.join(json.dumps(name, ensure_ascii=False) for name in names)})"


def scope_text(include: Mapping[str, Sequence[str]], exclude: Mapping[str, Sequence[str]]) -> str:
    """Predicate of line items by `products` and `categories`."""
    wanted = [f"{_OPERATORS[kind]} {listed(names)}" for kind, names in include.items() if names]
    text = " or ".join(wanted)
    parts = [f"({text})" if len(wanted) > 1 else text] if wanted else []
    parts += [f"not({_OPERATORS[kind]} {listed(n)})" for kind, n in exclude.items() if n]
    return " and ".join(parts) or EVERYTHING


def read_scope(text: str) -> Scope | None:
    """Scope of a predicate of line items; None if it says more than a scope can."""
    bare, literals = _cut(text)
    kinds = {operator: kind for kind, operator in _OPERATORS.items()}
    found: list[dict[str, tuple[str, ...]]] = []
    for pattern, part in ((_ANY_OF, _NONE_OF.sub("", bare)), (_NONE_OF, bare)):
        pairs = pattern.findall(part)
        names = {kinds[op]: tuple(_names(marks, literals)) for op, marks in pairs if op in kinds}
        found.append({kind: names[kind] for kind in _OPERATORS if kind in names})
    if scope_text(*found) != text:  # whatever was not understood shows here
        return None
    return Scope(include=Selection(**found[0]), exclude=Selection(**found[1]))


def clauses(text: str) -> Iterator[str]:
    """Parts of a predicate that must all hold."""
    bare, literals = _cut(text)
    depth, start = 0, 0
    for i, char in enumerate(bare):
        depth += (char == "(") - (char == ")")
        if depth == 0 and bare.startswith(" and ", i):
            yield _put_back(bare[start:i], literals)
            start = i + len(" and ")
    yield _put_back(bare[start:], literals)


def call_of(clause: str) -> tuple[str, str, str] | None:
    """Function, argument and comparison of a clause such as `lineItemCount(1 = 1) >= 3`."""
    match = re.fullmatch(r"(lineItem\w+)\((.*)\) (>= \S.*|= true)", clause, re.DOTALL)
    return None if match is None else (match[1], match[2], match[3])


def names_of(clause: str) -> tuple[str, bool, tuple[str, ...]] | None:
    """Field, whether it must not hold, and names of a clause such as `not(a.b in ("x"))`."""
    bare, literals = _cut(clause)
    match = re.fullmatch(r"(not\()?([\w.]+) in \(([$\d, ]+)\)(?(1)\))", bare)
    if match is None:
        return None
    return match[2], match[1] is not None, tuple(_names(match[3], literals))


def _cut(text: str) -> tuple[str, list[str]]:
    """Text with every literal replaced by a mark, and the literals."""
    if "$" in _LITERAL.sub("", text):  # no predicate of ours
        return "?", []
    literals = _LITERAL.findall(text)
    numbers = iter(range(len(literals)))
    return _LITERAL.sub(lambda _: f"${next(numbers)}", text), literals


def _put_back(bare: str, literals: Sequence[str]) -> str:
    return _MARK.sub(lambda mark: literals[int(mark[1])], bare)


def _names(marks: str, literals: Sequence[str]) -> list[str]:
    return [json.loads(literals[int(n)]) for n in _MARK.findall(marks)]
