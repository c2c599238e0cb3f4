"""What state files ask for that no kernel would give: it is not taken for an answer, and costs no evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nsinspect import codec, shares
from nsinspect.declarations import Claim, Declaration, Wanted
from nsinspect.runtimes import crun, runc, wanted
from tests.looks import rich
from tests.test_runtimes import Files


def survives(said: Wanted, claims: tuple[Claim, ...] = ()) -> bool:
    """Whether a capture with it can be read again."""
    snapshot = replace(rich(), declarations={("x", "y"): Declaration(source="/x", wanted=said)}, claims=claims)
    return codec.decode(codec.loads(codec.dumps(codec.encode(snapshot)))) == snapshot


def cpu(**said: int) -> dict[str, Any]:
    """A bundle that asks for that much CPU."""
    return {"linux": {"resources": {"cpu": said}}}


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param({"process": {"user": {"uid": -1}}}, "uid", None, id="a user below zero"),
        pytest.param(cpu(shares=-1), "shares", shares.DEFAULT, id="shares below zero"),
        pytest.param(cpu(quota=1 << 62, period=1), "cores", None, id="more CPUs than there can be"),
        pytest.param(cpu(quota=100_000, period=-1), "cores", None, id="a period below zero"),
        pytest.param(cpu(quota=150_000, period=100_000), "cores", 1.5, id="what a kernel takes"),
        pytest.param(cpu(quota=-1, period=100_000), "cores", "max", id="no quota"),
    ],
)
def test_a_bundle_may_ask_for_anything(spec: dict[str, Any], field: str, expected: object):
    said = wanted.from_oci(spec)
    assert getattr(said, field) == expected
    assert survives(said)


@pytest.mark.parametrize(
    ("host", "field", "expected"),
    [
        pytest.param({"CpuShares": -1}, "shares", shares.DEFAULT, id="shares below zero"),
        pytest.param({"NanoCpus": (1 << 63) - 1}, "cores", None, id="more CPUs than there can be"),
        pytest.param({"CpuQuota": 1, "CpuPeriod": -5}, "cores", None, id="a period below zero"),
        pytest.param({"Memory": (1 << 63) - 1}, "swap_max", (1 << 63) - 1, id="all the memory there can be"),
    ],
)
def test_so_may_a_person_who_tells_docker(host: dict[str, Any], field: str, expected: object):
    said = wanted.from_docker(host, {})
    assert getattr(said, field) == expected
    assert survives(said)


def test_an_init_that_began_before_the_boot_did_is_known_by_its_pid():
    """Of runc and of crun."""
    state = {"init_process_pid": 7, "init_process_start": -1, "pid": 7, "process-start-time": -1}
    files = Files({"/run/runc/a/state.json": state, "/run/crun/a/status": state})
    claims = (*runc.claims(files), *crun.claims(files))
    assert [(claim.pid, claim.starttime) for claim in claims] == [(7, None), (7, None)]
    assert survives(Wanted(), claims)
