"""Numbers and articles in sentences for people."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """The number with its noun: "1 request", "2 requests"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def a(noun: str) -> str:
    """The noun with its article: "a str", "an int"."""
    return f"an {noun}" if noun[:1].lower() in tuple("aeiou") else f"a {noun}"
