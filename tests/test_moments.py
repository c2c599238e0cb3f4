"""Moments as people write them: what each form means, where clocks change, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsinspect import moments
from nsinspect.cli import past

# A Thursday, in a zone that is not this machine's.
ZONE = timezone(timedelta(hours=-5))
NOW = datetime(2026, 1, 29, 12, 30, 15, 500_000, ZONE)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("  NOW ", NOW),
        ("0s ago", NOW),
        ("1 s ago", NOW - timedelta(seconds=1)),
        ("90s ago", NOW - timedelta(seconds=90)),
        ("90 sec ago", NOW - timedelta(seconds=90)),
        ("1 second ago", NOW - timedelta(seconds=1)),
        ("10m ago", NOW - timedelta(minutes=10)),
        ("10 min ago", NOW - timedelta(minutes=10)),
        ("10 Minutes   ago", NOW - timedelta(minutes=10)),
        ("2h ago", NOW - timedelta(hours=2)),
        ("1 hour ago", NOW - timedelta(hours=1)),
        ("3d ago", NOW - timedelta(days=3)),
        ("3 days ago", NOW - timedelta(days=3)),
        ("2w ago", NOW - timedelta(weeks=2)),
        ("1 week ago", NOW - timedelta(weeks=1)),
        ("03:14", datetime(2026, 1, 29, 3, 14, tzinfo=ZONE)),
        ("3:14", datetime(2026, 1, 29, 3, 14, tzinfo=ZONE)),
        ("12:30:15", datetime(2026, 1, 29, 12, 30, 15, tzinfo=ZONE)),
        ("23:59", datetime(2026, 1, 28, 23, 59, tzinfo=ZONE)),
        ("12:31", datetime(2026, 1, 28, 12, 31, tzinfo=ZONE)),
        ("00:00", datetime(2026, 1, 29, tzinfo=ZONE)),
        ("today 03:14", datetime(2026, 1, 29, 3, 14, tzinfo=ZONE)),
        ("yesterday 03:14", datetime(2026, 1, 28, 3, 14, tzinfo=ZONE)),
        ("Yesterday  23:59:59", datetime(2026, 1, 28, 23, 59, 59, tzinfo=ZONE)),
        ("2026-01-28T03:14:00Z", datetime(2026, 1, 28, 3, 14, tzinfo=UTC)),
        ("2026-01-28T03:14:00.25+02:00", datetime(2026, 1, 28, 1, 14, 0, 250_000, UTC)),
        (" 2026-01-28 03:14 ", datetime(2026, 1, 28, 3, 14, tzinfo=ZONE)),
        ("2026-01-28", datetime(2026, 1, 28, tzinfo=ZONE)),
    ],
)
def test_each_form_is_a_moment(text: str, expected: datetime):
    found = moments.parse(text, NOW)
    assert found == expected
    assert found.tzinfo is not None


def test_yesterday_is_the_day_before_even_after_midnight_and_new_year():
    now = datetime(2027, 1, 1, 0, 0, 1, tzinfo=ZONE)
    assert moments.parse("yesterday 23:00", now) == datetime(2026, 12, 31, 23, tzinfo=ZONE)
    assert moments.parse("23:00", now) == datetime(2026, 12, 31, 23, tzinfo=ZONE)
    assert moments.parse("0:00", now) == datetime(2027, 1, 1, tzinfo=ZONE)


def test_a_time_that_is_still_to_come_stays_what_was_said():
    """Who asks for it gets the last look there is."""
    assert moments.parse("2030-01-01T00:00:00Z", NOW) == datetime(2030, 1, 1, tzinfo=UTC)
    assert moments.parse("today 23:59", NOW) == datetime(2026, 1, 29, 23, 59, tzinfo=ZONE)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "ago", "10m", "m ago", "-1m ago", "1.5h ago", "10 fortnights ago", "10mago", "1 0m ago", "tomorrow"),
        *("24:00", "29:00", "12:60", "12:30:60", "123:00", "12", "yesterday", "yesterday 24:00", "tomorrow 10:00"),
        *("last week", "2026-13-01", "2026-02-30T00:00:00Z", "2026-01-01T25:00", "1769700000", "١٠m ago", "\ud800"),
        *("0m ago\x00", "\x1b[31m", "9" * 10_000 + "d ago", "10m ago; rm -rf /"),
    ],
)
def test_what_is_no_moment_is_refused_with_what_is_one(text: str):
    with pytest.raises(ValueError, match="10m ago") as caught:
        moments.parse(text, NOW)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


@pytest.mark.parametrize("text", ["999999999w ago", "999999999 days ago", "9999999 weeks ago"])
def test_what_is_before_all_times_is_refused(text: str):
    with pytest.raises(ValueError, match="expected"):
        moments.parse(text, NOW)


NUMBERS = st.integers(0, 10**12).map(str)
WORDS = st.sampled_from(["ago", "yesterday", "today", "now", " ", ":", "m", "h", "days", "w", "T", "Z", "-", "+", "W"])
ZONES = st.sampled_from([UTC, ZONE, BERLIN, ZoneInfo("Australia/Lord_Howe"), timezone(timedelta(hours=14))])


@given(
    st.text() | st.lists(NUMBERS | WORDS, max_size=7).map("".join),
    st.datetimes(datetime(1971, 1, 1), datetime(9990, 1, 1), timezones=ZONES),
)
def test_whatever_is_written_is_a_moment_or_refused(text: str, now: datetime):
    try:
        found = moments.parse(text, now)
    except ValueError:
        return
    assert found.tzinfo is not None


@given(st.datetimes(datetime(1971, 1, 1), datetime(9990, 1, 1), timezones=ZONES))
def test_what_was_written_as_rfc_3339_comes_back(now: datetime):
    assert moments.parse(now.isoformat(), NOW).timestamp() == now.timestamp()


# -- where clocks change -----------------------------------------------------------------------------------------------

# On 29 March 2026 clocks in Berlin went from 02:00 to 03:00, on 25 October from 03:00 to 02:00.
SPRING = datetime(2026, 3, 29, 12, 0, tzinfo=BERLIN)
AUTUMN = datetime(2026, 10, 25, 12, 0, tzinfo=BERLIN)


@pytest.mark.parametrize("now", [SPRING, AUTUMN])
@pytest.mark.parametrize(("text", "seconds"), [("12h ago", 43_200), ("720 min ago", 43_200), ("90 m ago", 5400)])
def test_so_long_ago_is_so_long_whatever_clocks_did(now: datetime, text: str, seconds: int):
    assert now.timestamp() - moments.parse(text, now).timestamp() == seconds


class _Clock(datetime):
    """Stands at a moment."""

    stands: datetime

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return cls.stands.astimezone(tz) if tz is not None else cls.stands.astimezone().replace(tzinfo=None)  # type: ignore[arg-type]


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Clock]]:
    """This machine is there."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    monkeypatch.setattr(past, "datetime", _Clock)
    yield _Clock
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        pytest.param(SPRING, "yesterday 03:14", "2026-03-28T02:14:00Z", id="the day before spring"),
        pytest.param(SPRING, "11:14", "2026-03-29T09:14:00Z", id="the day of it, after it"),
        pytest.param(SPRING, "01:14", "2026-03-29T00:14:00Z", id="the day of it, before it"),
        pytest.param(SPRING, "2026-03-01T03:14", "2026-03-01T02:14:00Z", id="in winter"),
        pytest.param(SPRING, "12h ago", "2026-03-28T22:00:00Z", id="hours"),
        pytest.param(AUTUMN, "yesterday 03:14", "2026-10-24T01:14:00Z", id="the day before autumn"),
        pytest.param(AUTUMN, "01:14", "2026-10-24T23:14:00Z", id="the day of it, before it"),
        pytest.param(AUTUMN, "12h ago", "2026-10-24T23:00:00Z", id="hours in autumn"),
    ],
)
def test_a_clock_on_the_wall_is_that_of_the_day_meant(berlin: type[_Clock], now: datetime, text: str, expected: str):
    berlin.stands = now
    assert datetime.fromtimestamp(past.when(text), UTC).isoformat().replace("+00:00", "Z") == expected


def test_an_hour_that_never_was_is_a_moment_nevertheless(berlin: type[_Clock]):
    berlin.stands = SPRING
    earliest, latest = (datetime(2026, 3, 29, hour, 30, tzinfo=UTC).timestamp() for hour in (0, 1))
    assert earliest <= past.when("02:30") <= latest
