"""Install the exporter as a systemd service in the QEMU guest, and do to it what happens to services.

Runs in the guest as root (see qemu.py and test_service.py); prints one JSON object.  Nothing here imports nsinspect.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, "/opt/nsinspect")
from tests.live.systemd_guest import sh

PORT = 10219
ETC = Path("/etc/nsinspect")
DROPINS = Path("/etc/systemd/system/nsinspect.service.d")
found: dict[str, Any] = {"failed": {}, "seconds": {}}


def until(answer: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    """The first true answer; what raises is no answer yet."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            if last := answer():
                return last
        except (OSError, RuntimeError, ValueError) as error:
            last = error
        time.sleep(0.2)
    raise RuntimeError(f"no {what} within {seconds} s: {last!r}")


def get(path: str, *, context: ssl.SSLContext | None = None, port: int = PORT) -> str:
    """An answer's text.  Raises ``OSError``."""
    scheme = "https" if context else "http"
    with urllib.request.urlopen(f"{scheme}://127.0.0.1:{port}{path}", timeout=30, context=context) as answer:
        text: str = answer.read().decode()
    return text


def prop(name: str, unit: str = "nsinspect.service") -> str:
    """One property of a unit."""
    return sh(f"systemctl show --value -p {name} {unit}")


def main_pid() -> int:
    """The service's pid, or 0."""
    return int(prop("MainPID"))


def dropin(name: str, text: str) -> None:
    """A drop-in of the service; systemd reads it."""
    DROPINS.mkdir(parents=True, exist_ok=True)
    (DROPINS / name).write_text(text)
    sh("systemctl daemon-reload")


def containers() -> None:
    """Two of Docker's and one of podman's."""
    for unit in ("containerd", "docker"):
        sh(f"systemctl start {unit}")
    sh("docker import /opt/rootfs.tar bb")
    limits = "--memory 64m --memory-swap 128m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --pids-limit 50"
    sh(f"docker run -d --name web --network none {limits} --label team=shop bb sleep 1000")
    sh("docker run -d --name agent --network host --pid host --privileged bb sleep 1000")
    sh("docker run -d --name gone --network none bb sleep 1000")
    sh("podman import /opt/rootfs.tar pb")
    sh("podman run -d --name pod1 --network none --memory 32m pb sleep 1000")


def install() -> None:
    """From the wheel, with what the distribution has of its dependencies."""
    (wheel,) = Path("/opt/wheel").glob("*.whl")
    sh(f"python3 -m pip install -q --no-deps --no-index --break-system-packages --root-user-action=ignore {wheel}")
    sh("systemd-sysusers")
    sh("systemctl daemon-reload")
    found["unit"] = prop("FragmentPath")
    sh("systemctl enable --now nsinspect.service")
    found["active"] = prop("ActiveState")


def facts() -> None:
    """What the service says, beside what root sees."""
    pid = main_pid()
    found["status"] = Path(f"/proc/{pid}/status").read_text()
    found["user"] = sh(f"ps -o user= -p {pid}")
    found["scrape"] = get("/metrics")
    found["root"] = sh("nsinspect serve --once")
    found["list"] = json.loads(sh("nsinspect list --json"))
    found["landing"] = get("/")
    found["security"] = {unit: security(unit) for unit in ("nsinspect.service", "nsinspect-files.service")}
    found["memory"] = int(prop("MemoryCurrent"))


def security(unit: str) -> float:
    """The exposure level that systemd-analyze gives a loaded unit."""
    last = sh(f"systemd-analyze security --no-pager {unit}").splitlines()[-1]
    return float(last.partition(": ")[2].split()[0])


def without_lender() -> None:
    """Names are unknown without the second service, and everything else is there."""
    sh("systemctl stop nsinspect-files.socket nsinspect-files.service")
    found["alone"] = get("/metrics")
    sh("systemctl start nsinspect-files.socket nsinspect-files.service")
    found["again"] = until(lambda: text if 'name="web"' in (text := get("/metrics")) else None, "names")


def killed() -> None:
    """kill -9: systemd brings it back."""
    before = main_pid()
    os.kill(before, 9)
    until(lambda: main_pid() not in (0, before) and "nsinspect_build_info" in get("/metrics"), "new service")
    found["killed"] = [before, main_pid()]


def frozen() -> None:
    """A process that does nothing any more: the watchdog brings it back."""
    dropin("watchdog.conf", "[Service]\nWatchdogSec=10\n")
    sh("systemctl restart nsinspect.service")
    # It lives through several of its watchdog's periods without a single scrape.
    before, restarts = main_pid(), int(prop("NRestarts"))
    time.sleep(25)
    found["fed"] = [before, main_pid(), restarts, int(prop("NRestarts"))]
    os.kill(before, 19)
    until(lambda: main_pid() not in (0, before) and "nsinspect_build_info" in get("/metrics"), "new service", 120)
    found["frozen"] = sh("journalctl -u nsinspect.service -o cat --no-pager -n 40")
    (DROPINS / "watchdog.conf").unlink()
    sh("systemctl daemon-reload")


def certificate(number: int, folder: Path) -> None:
    """A certificate and its key, which say which one they are."""
    sh(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -addext"
        f" subjectAltName=IP:127.0.0.1 -subj /CN=n{number} -set_serial {number}"
        f" -keyout {folder}/key.pem -out {folder}/cert.pem"
    )


def rotated() -> None:
    """New certificates under load: written one file after the other, as tools do."""
    ETC.mkdir(exist_ok=True)
    pairs = []
    for number in range(1, 6):
        folder = Path(f"/tmp/pair{number}")
        folder.mkdir()
        certificate(number, folder)
        pairs.append(folder)
    (ETC / "web.yml").write_text("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n")

    def put(folder: Path) -> None:
        for name in ("cert.pem", "key.pem"):
            (ETC / name).write_bytes((folder / name).read_bytes())
            time.sleep(0.3)

    put(pairs[0])
    sh("chown -R root:nsinspect /etc/nsinspect")
    sh("chmod 750 /etc/nsinspect")
    sh("chmod 640 /etc/nsinspect/cert.pem /etc/nsinspect/key.pem /etc/nsinspect/web.yml")
    Path("/etc/default/nsinspect").write_text('NSINSPECT_FLAGS="--web.config.file /etc/nsinspect/web.yml"\n')
    sh("systemctl restart nsinspect.service")
    context = ssl.create_default_context()
    for folder in pairs:
        context.load_verify_locations(folder / "cert.pem")
    stop = threading.Event()
    answers: list[str] = []

    def load() -> None:
        while not stop.is_set():
            try:
                answers.append("ok" if "nsinspect_build_info" in get("/metrics", context=context) else "empty")
            except OSError as error:
                answers.append(repr(error))

    before = main_pid()
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for folder in pairs[1:]:
        time.sleep(1)
        put(folder)
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join()
    served = ssl.get_server_certificate(("127.0.0.1", PORT))
    found["rotated"] = {
        "answers": {one: answers.count(one) for one in set(answers)},
        "served_last": served.split() == (pairs[-1] / "cert.pem").read_text().split(),
        "pids": [before, main_pid()],
    }


def reloaded() -> None:
    """systemctl reload counts at once, and waits until it does; a broken file changes nothing."""
    context = ssl.create_default_context(cafile=str(ETC / "cert.pem"))
    hashed = "$2b$04$" + "abcdefghijklmnopqrstuu" + "5Qw2Z1ZYcWqk1c4DqQ1Q0m1nXk0b0dO"
    before = (ETC / "web.yml").read_text()
    (ETC / "web.yml").write_text(f"{before}basic_auth_users:\n  prometheus: {hashed}\n")
    sh("systemctl reload nsinspect.service")
    try:
        get("/metrics", context=context)
        found["reloaded"] = "open"
    except urllib.error.HTTPError as error:
        found["reloaded"] = error.code
    (ETC / "web.yml").write_text("tls_server_config: [")
    sh("systemctl reload nsinspect.service")
    try:
        get("/metrics", context=context)
        found["broken"] = "open"
    except urllib.error.HTTPError as error:
        found["broken"] = error.code
    found["journal"] = sh("journalctl -u nsinspect.service -o cat --no-pager -n 10")
    Path("/etc/default/nsinspect").unlink()


def activated() -> None:
    """The socket unit: systemd listens, the service has no network."""
    sh("systemctl stop nsinspect.service")
    dropin("socket.conf", Path("/usr/local/share/nsinspect/nsinspect.service.d/socket.conf").read_text())
    sh("systemctl enable --now nsinspect.socket")
    pid_before = main_pid()
    text = get("/metrics")
    pid = main_pid()
    found["socket"] = {
        "before": pid_before,
        "scrape": text,
        "security": security("nsinspect.service"),
        "devices": Path(f"/proc/{pid}/net/dev").read_text(),
        "net": [os.readlink(f"/proc/{one}/ns/net") for one in (1, pid)],
    }


def prometheus() -> None:
    """A real one scrapes the real service three times; between the second and the third a container goes."""
    folder = Path("/tmp/prometheus")
    folder.mkdir()
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 3s, scrape_timeout: 3s}\nscrape_configs:\n- job_name: nsinspect\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{PORT}']}}]\n"
    )
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             "--web.listen-address=127.0.0.1:9090"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until(lambda: up_count() >= 2, "two scrapes", 120)
        shown = json.loads(sh("nsinspect list --json"))
        now = {"all": query('{__name__=~"nsinspect_.*"}'), "up": query("up"), "list": shown}
        sh("docker rm -f gone")
        seen = up_count()
        until(lambda: up_count() >= seen + 2, "scrapes after the removal", 60)
        found["prometheus"] = {
            **now,
            "later": query('{__name__=~"nsinspect_.*"}'),
            "counters": query('{__name__=~"nsinspect_.*_total"}[10m]'),
            "scrapes": query("min_over_time(up[5m])"),
        }
    finally:
        daemon.terminate()
        daemon.wait(30)
        found["prometheus_log"] = (folder / "log").read_text()[-1500:]


def query(text: str) -> list[dict[str, Any]]:
    """An instant query."""
    asked = urllib.parse.urlencode({"query": text})
    result: list[dict[str, Any]] = json.loads(get(f"/api/v1/query?{asked}", port=9090))["data"]["result"]
    return result


def up_count() -> int:
    """How many scrapes succeeded."""
    rows = query("sum_over_time(up[10m])")
    return int(float(rows[0]["value"][1])) if rows else 0


def checkout() -> None:
    """The same units with a checkout instead of the wheel."""
    sh("python3 -m pip uninstall -q -y --break-system-packages --root-user-action=ignore nsinspect")
    program = Path("/usr/local/bin/nsinspect")
    program.write_text('#!/bin/sh\nPYTHONPATH=/opt/nsinspect exec python3 -m nsinspect "$@"\n')
    program.chmod(0o755)
    for unit in Path("/opt/nsinspect/systemd").glob("nsinspect*.s*"):
        if unit.is_file():
            Path("/etc/systemd/system", unit.name).write_text(unit.read_text())
    (DROPINS / "socket.conf").unlink()
    sh("systemctl disable --now nsinspect.socket", check=False)
    sh("systemctl daemon-reload")
    sh("systemctl stop nsinspect.service")
    sh("systemctl enable --now nsinspect.service")
    found["checkout"] = {"unit": prop("FragmentPath"), "scrape": get("/metrics")}


def stopped() -> None:
    """SIGTERM, and nothing left."""
    begun = time.monotonic()
    sh("systemctl stop nsinspect.service")
    found["stopped"] = {
        "result": prop("Result"),
        "seconds": time.monotonic() - begun,
        "left": sh("pgrep -u nsinspect", check=False),
    }


def main() -> None:
    """Every step; one that fails is told and does not end the others."""
    for step in (
        containers, install, facts, without_lender, killed, frozen, rotated, reloaded, activated, prometheus, checkout,
        stopped,
    ):  # fmt: skip
        begun = time.monotonic()
        try:
            step()
        except (OSError, RuntimeError, ValueError, KeyError, subprocess.SubprocessError):
            state = sh("systemctl status nsinspect.service --no-pager -n 20", check=False)
            found["failed"][step.__name__] = f"{traceback.format_exc()}\n{state}"
        found["seconds"][step.__name__] = round(time.monotonic() - begun, 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
