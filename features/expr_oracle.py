"""What expressions mean, one record at a time; slow, and right by inspection. Tests hold ``expr`` to it."""

from collections.abc import Mapping

from headrace.features import nodes
from headrace.features.kernel.limits import MAX_INTEGER, MAX_MAGNITUDE, MIN_MAGNITUDE
from headrace.features.texts import MAX_TEXT_BYTES, ShortText, TextHash, hash_of_text


def evaluate_record(expr: nodes.Expr, record: Mapping) -> float | bool | str | None:
    """The value of an expression for one event, given as a mapping of field names to Python values."""
    match expr:
        case nodes.Field(name):
            value = record[name]
            return value if isinstance(value, str | bool) else number(value)
        case nodes.Literal(value):
            return value
        case nodes.Arithmetic(op, left, right):
            return arithmetic(op, number(evaluate_record(left, record)), number(evaluate_record(right, record)))
        case nodes.Comparison(op, left, right):
            return comparison(op, evaluate_record(left, record), evaluate_record(right, record))
        case nodes.Logic("&", left, right):
            truths = evaluate_record(left, record), evaluate_record(right, record)
            return False if False in truths else None if None in truths else True
        case nodes.Logic("|", left, right):
            truths = evaluate_record(left, record), evaluate_record(right, record)
            return True if True in truths else None if None in truths else False
        case nodes.Not(operand):
            truth = evaluate_record(operand, record)
            return None if truth is None else not truth
        case nodes.IsNull(operand):
            return evaluate_record(operand, record) is None
        case ShortText(operand):
            text = evaluate_record(operand, record)
            return None if text is None or len(text.encode()) > MAX_TEXT_BYTES else hash_of_text(text)
        case TextHash(operand):
            text = evaluate_record(operand, record)
            return None if text is None else hash_of_text(text)
        case nodes.Membership(operand, values):
            value = evaluate_record(operand, record)
            return None if value is None else any(value == literal.value for literal in values)
        case nodes.When(_, value, condition):
            return number(evaluate_record(value, record)) if evaluate_record(condition, record) is True else None
    raise TypeError(f"no meaning for {type(expr).__name__}")


def number(value: float | bool | None) -> float | None:
    """A value as the float64 the kernel accepts, or None."""
    if value is None or (isinstance(value, int) and abs(value) > MAX_INTEGER):
        return None
    value = float(value)
    if not abs(value) < MAX_MAGNITUDE:
        return None
    return 0.0 if abs(value) < MIN_MAGNITUDE else value


def arithmetic(op: str, left: float | None, right: float | None) -> float | None:
    """One operation in float64; None where a side is, for a zero divisor and for a result beyond the limits."""
    if left is None or right is None or (op == "/" and right == 0):
        return None
    operations = {"+": left + right, "-": left - right, "*": left * right, "/": left / (right or 1.0)}
    return number(operations[op])


def comparison(op: str, left: object, right: object) -> bool | None:
    """One comparison; None where a side is."""
    if left is None or right is None:
        return None
    return {
        "==": left == right,
        "!=": left != right,
        "<": op == "<" and left < right,
        "<=": op == "<=" and left <= right,
        ">": op == ">" and left > right,
        ">=": op == ">=" and left >= right,
    }[op]
