"""ISO 8601 dates and times as CDISC writes them: whole or partial, and always possible in the calendar."""

from __future__ import annotations

import datetime
import re

_PARTS = re.compile(
    r"(?P<year>\d{4}|-)(?:-(?P<month>\d{2}|-)(?:-(?P<day>\d{2}|-))?)?"
    r"(?:T(?P<hour>\d{2}|-)(?::(?P<minute>\d{2}|-)(?::(?P<second>\d{2})(?:[.,]\d{1,9})?)?)?"
    r"(?P<zone>Z|[+-]\d{2}:\d{2})?)?"
)
_TIME = re.compile(
    r"(?P<hour>\d{2}|-)(?::(?P<minute>\d{2}|-)(?::(?P<second>\d{2})(?:[.,]\d{1,9})?)?)?(Z|[+-]\d{2}:\d{2})?"
)


def fault(text: str, kind: str) -> str:
    """Why a text is not the ``date``, ``datetime`` or ``time`` it should be; empty where it is.

    >>> fault("2013-02", "date"), fault("2024-02-30", "date")
    ('', 'is not a day of the calendar')
    """
    match = (_TIME if kind == "time" else _PARTS).fullmatch(text)
    if not match:
        return f"is not an ISO 8601 {kind}, such as {_EXAMPLES[kind]}"
    if kind == "date" and "T" in text:
        return "has a time of day in a date"
    parts = {name: int(part) for name, part in match.groupdict().items() if part and part.isdigit()}
    if parts.get("hour", 0) > 24 or parts.get("minute", 0) > 59 or parts.get("second", 0) > 59:
        return "is not a time of the clock"
    if not 1 <= parts.get("month", 1) <= 12 or not _day_exists(parts):
        return "is not a day of the calendar"
    return ""


_EXAMPLES = {"date": "2024-02-29", "datetime": "2024-02-29T08:30", "time": "08:30"}


def _day_exists(parts: dict[str, int]) -> bool:
    """Whether the day is in its month; an unknown year may be a leap year."""
    try:
        datetime.date(parts.get("year") or 2000, parts.get("month", 1), parts.get("day", 1))
    except ValueError:
        return False
    return True
