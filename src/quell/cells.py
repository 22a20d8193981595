"""Text cells become values, once: days, numbers, flags and dates, or a sentence that says where one is not."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

TEXT, DAY, NUMBER, FLAG, DATE = pl.String(), pl.Int32(), pl.Float64(), pl.Boolean(), pl.Date()

NOTHING = ("", ".", "NA")  # how spreadsheets, SAS and R write a missing number
FLAGS = {word: True for word in ("true", "yes", "y", "1")} | {word: False for word in ("false", "no", "n", "0")}


def covariate_type(column: pl.Series) -> pl.DataType:
    """The type a covariate has inside quell: flag, number or text."""
    if column.dtype == pl.Boolean:
        return FLAG
    return NUMBER if column.dtype.is_numeric() else TEXT


def converted(column: pl.Series, kind: pl.DataType, file: str, problems: list[str]) -> pl.Series:
    """One column in its declared type; the first value that does not fit becomes a sentence."""
    if column.dtype == kind:
        return column.replace("", None) if kind == TEXT else column
    if column.dtype != pl.String:
        if column.dtype.is_nested() or column.dtype == pl.Binary or column.dtype == pl.Object:
            problems.append(f"{file}, column '{column.name}', holds more than plain values. Write {_FORMS[kind][1]}.")
            return pl.Series(column.name, [None] * len(column), dtype=kind)
        column = column.cast(pl.String)
    if kind == TEXT:
        return column.replace("", None)
    given = column.str.strip_chars()
    given = given.set(given.is_in(list(NOTHING)), None)
    found = _FORMS[kind][0](given)
    wrong = (given.is_not_null() & found.is_null()).arg_true()
    if len(wrong):
        row = int(wrong[0])
        many = f" ({len(wrong):,} rows are like this)" if len(wrong) > 1 else ""
        problems.append(
            f"{file}, column '{column.name}', row {row + 1}: '{_short(given[row])}' is not {_FORMS[kind][1]}{many}."
            f"{_advice(given[row], kind)}"
        )
    return found.alias(column.name)


def _whole(text: pl.Series) -> pl.Series:
    plain = text.set(~text.str.contains(r"^[+-]?\d{1,9}(\.0*)?$"), None)
    return plain.cast(pl.Float64, strict=False).cast(pl.Int32, strict=False)


def _number(text: pl.Series) -> pl.Series:
    plain = text.set(~text.str.contains(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"), None)
    found = plain.str.strip_prefix("+").cast(pl.Float64, strict=False)
    return found.set(found.is_infinite(), None)


def _flag(text: pl.Series) -> pl.Series:
    return text.str.to_lowercase().replace_strict(FLAGS, default=None, return_dtype=pl.Boolean)


def _date(text: pl.Series) -> pl.Series:
    plain = text.set(~text.str.contains(r"^\d{4}-\d{2}-\d{2}$"), None)
    return plain.str.to_date("%Y-%m-%d", strict=False)


_FORMS: dict[pl.DataType, tuple[Callable[[pl.Series], pl.Series], str]] = {
    TEXT: (lambda text: text, "text"),
    DAY: (_whole, "a whole number of days"),
    NUMBER: (_number, "a number"),
    FLAG: (_flag, "true or false"),
    DATE: (_date, "a date of the calendar"),
}


def _advice(value: str, kind: pl.DataType) -> str:
    if kind == DATE:
        return " Write year-month-day, such as 2024-02-29."
    if kind == NUMBER and value.startswith(("<", ">", "≤", "≥")):
        return " Below the limit, write half the limit as the value and 'below limit' as the status."
    if kind == NUMBER and value.count(",") == 1:
        return " Write a point for the decimal mark, such as 1.5."
    if kind == DAY:
        return " Write a day such as 12; day 1 is the day of the first dose."
    if kind == FLAG:
        return " Write true or false."
    return " Write a plain number such as 1.5, or leave the cell empty."


def _short(value: str) -> str:
    return value if len(value) <= 60 else value[:57] + "…"


def covariate(column: pl.Series, kind: str, file: str, problems: list[str]) -> pl.Series:
    """A further column of subjects: the kind the manifest names, else numbers or flags where every value is one."""
    if column.dtype in (NUMBER, FLAG) or column.dtype.is_numeric():
        return column.cast(pl.String) if kind == "text" else column.cast(covariate_type(column))
    if kind:
        return converted(column, {"text": TEXT, "number": NUMBER, "flag": FLAG}[kind], file, problems)
    text = column.cast(pl.String).replace("", None)
    given = text.str.strip_chars()
    given = given.set(given.is_in(list(NOTHING)), None)
    # 007 is a code, not seven
    coded = given.str.contains(r"^[+-]?0\d").any()
    for attempt in () if coded or not given.count() else (_number, _words_flag):
        found = attempt(given)
        if found.null_count() == given.null_count():
            return found.alias(column.name)
    return text


def _words_flag(text: pl.Series) -> pl.Series:
    """Only the words true and false make a flag by themselves: Y, N and 1, 0 may mean anything."""
    return text.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
