"""Log lines: one line each whatever is in them, and what programs read of them."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsinspect.serve import logs
from tests.runner import loggers_as_they_were

FUZZ = settings(deadline=None, max_examples=100)
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "=\\]+)(?: |$)')
FORMATS = pytest.mark.parametrize("formatter", [logs.Logfmt(), logs.Json()], ids=["logfmt", "json"])


def record(message: str, *arguments: object, exception: BaseException | None = None) -> logging.LogRecord:
    """A record of 2026-01-02 03:04:05.678 UTC."""
    info = (type(exception), exception, exception.__traceback__) if exception else None
    made = logging.LogRecord("nsinspect.x", logging.WARNING, "x.py", 1, message, arguments, info)
    made.created = 1767323045.678
    return made


def fields(formatter: logging.Formatter, line: str) -> dict[str, str]:
    """What a program reads of a line."""
    if isinstance(formatter, logs.Json):
        parsed = json.loads(line)
        assert isinstance(parsed, dict)
        return parsed
    found, end = {}, 0
    while end < len(line):
        pair = PAIR.match(line, end)
        assert pair, line[end:]
        name, value = pair.groups()
        assert name not in found
        found[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        end = pair.end()
    return found


def one_line(line: str) -> None:
    """No terminal, journal or reader sees a second one, and it can be encoded."""
    assert line.splitlines() == [line]
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", line)
    line.encode("utf-8")


def test_a_record_is_a_line_as_prometheus_writes_it():
    """With the time in UTC."""
    assert logs.Logfmt().format(record("ready")) == "ts=2026-01-02T03:04:05.678+00:00 level=warning msg=ready"
    assert logs.Logfmt().format(record('a "b" of %s', 5)).endswith(r' msg="a \"b\" of 5"')
    assert logs.Logfmt().format(record("")).endswith(' msg=""')
    assert json.loads(logs.Json().format(record("a b"))) == {
        "ts": "2026-01-02T03:04:05.678+00:00",
        "level": "warning",
        "msg": "a b",
    }


@FORMATS
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("a\nlevel=error msg=forged", r"a\x0alevel=error msg=forged"),
        ("a\r\nb", r"a\x0d\x0ab"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("a\0b\tc\x7f", r"a\x00b\x09c\x7f"),
        ("\u2028\u2029\u202e", r"\u2028\u2029\u202e"),
        ("\udcff\ud800", r"\xff\ud800"),
        ('" level=error msg="forged', '" level=error msg="forged'),
        ('\\" msg=forged', '\\" msg=forged'),
        ("\\", "\\"),
        ("a=b", "a=b"),
        ('{"level": "error"}', '{"level": "error"}'),
        ("数据库 ä", "数据库 ä"),
        (" ", " "),
    ],
)
def test_hostile_text_stays_in_its_field(formatter: logging.Formatter, message: str, expected: str):
    """Controls are spelled out; quotes and backslashes end nothing.  Fails without ``safe.text`` or without quotes."""
    line = formatter.format(record("%s", message))

    one_line(line)
    assert fields(formatter, line)["msg"] == expected
    assert list(fields(formatter, line)) == ["ts", "level", "msg"]


@FORMATS
@FUZZ
@given(message=st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_is_one_line_that_a_program_can_read(formatter: logging.Formatter, message: str):
    """Surrogates too."""
    line = formatter.format(record("%s", message))

    one_line(line)
    assert list(fields(formatter, line)) == ["ts", "level", "msg"]


@FORMATS
def test_an_exception_is_on_the_same_line(formatter: logging.Formatter):
    """With where it came from and what it was caused by."""
    try:
        try:
            raise ValueError("first\nline \x1b[31m\udcff")
        except ValueError as cause:
            raise OSError(5, 'in"put') from cause
    except OSError as error:
        line = formatter.format(record("collector %s failed", "model", exception=error))

    one_line(line)
    found = fields(formatter, line)
    assert found["msg"] == "collector model failed"
    assert found["err"].startswith("Traceback (most recent call last): | ")
    assert r"ValueError: first | line \x1b[31m\xff" in found["err"]
    assert "test_serve_logs.py" in found["err"]
    assert found["err"].endswith("""OSError: [Errno 5] in"put""")


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The package's logger."""
    with loggers_as_they_were():
        yield logging.getLogger("nsinspect")


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_the_log_goes_to_stderr_from_its_level_on(log: logging.Logger, monkeypatch: pytest.MonkeyPatch, style: str):
    """And nowhere else."""
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.start("warning", style)
    logging.getLogger("nsinspect.serve").info("not this")
    logging.getLogger("nsinspect.serve").warning("this\nhere")
    logging.getLogger("asyncio").error("a callback\nfailed")

    formatter = logs.Json() if style == "json" else logs.Logfmt()
    said = [fields(formatter, line)["msg"] for line in stderr.getvalue().splitlines()]
    assert said == [r"this\x0ahere", r"a callback\x0afailed"]
    assert not log.propagate
