"""Prometheus keeps scraping while everything that can be done to a port is done to it, and nothing of it stays."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import bcrypt
import pytest
import trustme

from tests.live.docker import Docker
from tests.live.exporter import CHECKOUT, Exporter, Prometheus, exporter, prometheus, until

SECONDS = 30
MIB = 1 << 20


class Host(NamedTuple):
    """Two exporters, one with TLS, client certificates and a password, and what scrapes them."""

    tls: Exporter
    plain: Exporter
    prometheus: Prometheus
    plan: dict[str, object]


@pytest.fixture(scope="module")
def host(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("attacks")
    for name in ("tls", "plain", "prometheus"):
        (folder / name).mkdir()
    for number in range(8):
        docker.run(f"attacked{number}", "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE")
    plan: dict[str, object] = {"idle": 200, "slow": 50, "passwords": 100, **certificates(folder)}
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(10)).decode()
    (folder / "tls/web.yml").write_text(
        "tls_server_config:\n  cert_file: ../server.pem\n  key_file: ../server.pem\n  client_ca_file: ../ca.pem\n"
        "  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [prometheus.example]\n"
        f"basic_auth_users:\n  prometheus: '{hashed}'\n"
    )
    with (
        exporter(folder / "tls", "--web.config.file", "web.yml") as tls,
        exporter(folder / "plain") as plain,
        prometheus(folder / "prometheus", config(folder, tls.port, plain.port), 19092) as server,
    ):
        server.wait_for_scrapes(2, "tls")
        server.wait_for_scrapes(2, "plain")
        yield Host(tls, plain, server, {**plan, "tls": tls.port, "plain": plain.port})
    docker("rm", "-f", *(f"attacked{number}" for number in range(8)))


def certificates(folder: Path) -> dict[str, object]:
    """An authority, a server, and clients: ours, a stranger's and one whose time is over."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    over = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    made = {
        "server": authority.issue_cert("127.0.0.1"),
        "client": authority.issue_cert("prometheus.example"),
        "stranger": other.issue_cert("prometheus.example"),
        "expired": authority.issue_cert("prometheus.example", not_after=over),
    }
    for name, one in made.items():
        one.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    return {"ca": str(folder / "ca.pem")} | {name: str(folder / f"{name}.pem") for name in made}


def config(folder: Path, tls: int, plain: int) -> str:
    """Two jobs, scraped every two seconds with as much patience."""
    return f"""
global: {{scrape_interval: 2s, scrape_timeout: 2s}}
scrape_configs:
- job_name: plain
  static_configs: [{{targets: ['127.0.0.1:{plain}']}}]
- job_name: tls
  scheme: https
  basic_auth: {{username: prometheus, password: right}}
  tls_config: {{ca_file: {folder}/ca.pem, cert_file: {folder}/client.pem, key_file: {folder}/client.pem}}
  static_configs: [{{targets: ['127.0.0.1:{tls}']}}]
"""


def attack(host: Host, seconds: float, during: Callable[[], None] = lambda: None) -> dict[str, int]:
    """Everything at once, for a while; what became of the attackers."""
    attackers = subprocess.Popen(
        [sys.executable, "-m", "tests.live.attackers"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT, text=True,
    )  # fmt: skip
    assert attackers.stdin
    assert attackers.stdout
    try:
        attackers.stdin.write(json.dumps(host.plan) + "\n")
        attackers.stdin.flush()
        time.sleep(seconds)
        during()
        words, _ = attackers.communicate(timeout=30)
    finally:
        attackers.kill()
        attackers.wait()
    outcomes: dict[str, int] = json.loads(words)
    return outcomes


def settled(host: Host) -> list[tuple[int, int, int]]:
    """RSS, threads and descriptors of each once the clients are gone."""
    exporters = (host.tls, host.plain)
    # One connection of Prometheus' own may rest; 40 is far below any attack.
    until(lambda: all(one.descriptors() < 40 for one in exporters), "descriptors given back", 100)
    for job in ("tls", "plain"):
        host.prometheus.wait_for_scrapes(2, job)
    return [(one.rss(), one.threads(), one.descriptors()) for one in exporters]


def test_prometheus_never_misses_a_scrape_and_nothing_grows(host: Host):
    """Held at once: 200 silent clients on each port, 50 a byte a second, 50 that never read, nonsense, 100 wrong
    passwords a second, wrong certificates.  A first attack warms up what may be kept once.  A peak that it did not
    reach (hundreds of handshakes in the same moment take some MiB) is kept once as well; what grows, grows again."""
    attack(host, 15)
    looks = [settled(host)]
    scraped = []

    def count() -> None:
        scraped.extend(
            (host.prometheus.value(f'{over}(up{{job="{job}"}}[{SECONDS - 2}s])') or 0)
            for job in ("tls", "plain")
            for over in ("min_over_time", "count_over_time")
        )

    outcomes = attack(host, SECONDS, count)
    looks.append(settled(host))
    if any(now[0] >= was[0] + 4 * MIB for was, now in zip(*looks, strict=True)):
        attack(host, SECONDS)
        looks.append(settled(host))

    print(outcomes, looks, scraped)
    assert scraped[0] == scraped[2] == 1
    assert min(scraped[1], scraped[3]) >= (SECONDS - 2) / 2 - 2
    for first, before, (rss, threads, descriptors) in zip(looks[0], looks[-2], looks[-1], strict=True):
        assert rss < min(before[0] + 4 * MIB, 64 * MIB)
        assert threads <= first[1] + 1
        assert descriptors <= first[2] + 2
    # The attackers were there, were thrown out, and learnt nothing.
    for port in ("idle tls", "idle plain"):
        assert sum(outcomes.get(f"{port}: {end}", 0) for end in ("closed", "ConnectionResetError")) > 200
    assert not [one for one in outcomes if "200" in one and not one.startswith("garbage: HTTP/1.1 200")]
    assert outcomes["password: begun"] > 100 * SECONDS * 0.8
    assert outcomes["password: HTTP/1.1 401 Unauthorized"] > SECONDS
    for refused in ("stranger", "expired", "no certificate"):
        assert not [one for one in outcomes if one.startswith(f"{refused}: HTTP")]


def test_the_log_has_no_tracebacks_and_no_flood(host: Host):
    for one in (host.tls, host.plain):
        lines = one.log.read_text().splitlines()
        assert not [line for line in lines if "Traceback" in line or "level=error" in line]
        assert len(lines) < 20
