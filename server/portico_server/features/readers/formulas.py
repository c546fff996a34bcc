"""Converts formulas of Office documents and MathML to a line of text: (a + b)/2, x^2, a_n, √(x)."""

from __future__ import annotations

from typing import Any

MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
MATHML = "{http://www.w3.org/1998/Math/MathML}"
_MATHML_SCRIPTS = {
    "msub": "_",
    "msup": "^",
    "msubsup": "_^",
    "munder": "_",
    "mover": "^",
    "munderover": "_^",
}
_SCRIPTS = (("_", "sub"), ("^", "sup"))


def formula_text(node: Any) -> str:
    """Return the text of a formula's element. Elements without a rule become the concatenated texts of their
    children.
    """
    kind = node.tag.removeprefix(MATH) if isinstance(node.tag, str) else ""
    if kind == "t":
        return node.text or ""
    if kind == "f":
        return f"{_parenthesize(_formula_in(node, 'num'))}/{_parenthesize(_formula_in(node, 'den'))}"
    if kind in ("sSup", "sSub", "sSubSup", "nary"):
        base = _formula_in(node, "e")
        scripts = [(mark, _formula_in(node, part)) for mark, part in _SCRIPTS]
        marks = [f"{mark}{_parenthesize(formula)}" for mark, formula in scripts if formula]
        if kind == "nary":
            sign = node.find(f"{MATH}naryPr/{MATH}chr")
            return f"{'∫' if sign is None else sign.get(f'{MATH}val', '')}{''.join(marks)} {base}"
        return base + "".join(marks)
    if kind == "rad":
        degree = _formula_in(node, "deg")
        return f"{_parenthesize(degree) if degree else ''}√({_formula_in(node, 'e')})"
    if kind == "d":
        ends = [node.find(f"{MATH}dPr/{MATH}{end}") for end in ("begChr", "endChr")]
        opening, right = (
            usual if delimiter is None else delimiter.get(f"{MATH}val", "")
            for delimiter, usual in zip(ends, "()", strict=True)
        )
        return f"{opening}{', '.join(formula_text(child) for child in node.findall(f'{MATH}e'))}{right}"
    if kind == "m":
        rows = node.findall(f"{MATH}mr")
        return f"[{'; '.join(', '.join(formula_text(child) for child in row) for row in rows)}]"
    return "".join(formula_text(child) for child in node if not str(child.tag).endswith("Pr"))


def _formula_in(node: Any, part: str) -> str:
    child = node.find(f"{MATH}{part}")
    return "" if child is None else formula_text(child).strip()


def _parenthesize(formula: str) -> str:
    """Return the text of an operand, in parentheses unless it is a single name or number."""
    return formula if formula.isalnum() else f"({formula})"


def mathml_text(node: Any) -> str:
    """Return the text of an element of MathML. Elements without a rule become the concatenated texts of their
    children.
    """
    kind = node.tag.removeprefix(MATHML) if isinstance(node.tag, str) else "annotation"
    if kind.startswith("annotation"):
        return ""
    if not len(node):
        return (node.text or "").strip()
    parts = [mathml_text(child) for child in node]
    if kind == "mfrac" and len(parts) == 2:
        return f"{_parenthesize(parts[0])}/{_parenthesize(parts[1])}"
    if kind in _MATHML_SCRIPTS and len(parts) == len(_MATHML_SCRIPTS[kind]) + 1:
        marks = zip(_MATHML_SCRIPTS[kind], parts[1:], strict=True)
        return parts[0] + "".join(f"{mark}{_parenthesize(script)}" for mark, script in marks if script)
    if kind == "msqrt":
        return f"√({''.join(parts)})"
    if kind == "mroot" and len(parts) == 2:
        return f"{_parenthesize(parts[1])}√({parts[0]})"
    if kind == "mfenced":
        return f"{node.get('open', '(')}{', '.join(parts)}{node.get('close', ')')}"
    if kind == "mtable":
        return f"[{'; '.join(parts)}]"
    return (", " if kind == "mtr" else "").join(parts)
