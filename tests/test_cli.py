"""The command line as scripts meet it: exit codes, what goes to which stream, and what a hostile name cannot do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple

import pytest

from nsinspect.cli import cli
from tests.runner import runner

HERE = Path(__file__).parent
HOSTS = HERE / "fixtures/hosts"
HOSTILE = b"\x1b]0;owned\x07[/red]\xff\n"


class Answer(NamedTuple):
    """What the program answered."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(*arguments: str) -> Answer:
    """The program in this process, where it is what it says that counts: a process of its own takes ten times as
    long.  Each exit code and stream is seen from outside somewhere, by :func:`nsinspect`."""
    found = runner().invoke(cli, arguments, prog_name="nsinspect")
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exc_info
    return Answer(found.exit_code, found.stdout_bytes, found.stderr_bytes)


def nsinspect(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program as a user would, with no terminal."""
    command = [sys.executable, "-m", "nsinspect", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(HERE.parent), **environment},
    )


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A copy of a bundled host that a test may change."""
    return Path(shutil.copytree(HOSTS / "docker-hybrid", tmp_path / "host", symlinks=True))


def init_of(host: Path, name: str) -> Path:
    """The /proc directory of a container's init."""
    answer = json.loads(run("--root", str(host), "show", name, "--json").stdout)
    return host / "proc" / str(answer["container"]["init"]["pid"])


def test_looked_and_fine_is_0():
    """list, its aliases and show exit 0 and say nothing on stderr."""
    root = ("--root", str(HOSTS / "docker-hybrid"))
    answers = [nsinspect(*root, "list"), run(*root, "ls"), run(*root, "ps"), run(*root, "show", "web")]

    assert [(answer.returncode, answer.stderr) for answer in answers] == [(0, b"")] * 4
    assert answers[0].stdout == answers[1].stdout == answers[2].stdout


def test_no_such_container_is_3_with_one_line():
    """show nope says so in one line and exits 3."""
    answer = nsinspect("--root", str(HOSTS / "docker-hybrid"), "show", "nope")

    assert (answer.returncode, answer.stdout, answer.stderr) == (3, b"", b"nsinspect: no such container: nope\n")


def test_an_ambiguous_prefix_is_4_and_lists_the_candidates(host: Path):
    """A prefix that several ids begin with exits 4 and names them."""
    ids = json.loads(run("--root", str(host), "list", "--json").stdout)["containers"]
    one, other = ids[0]["id"], ids[1]["id"]
    twin = one[:4] + other[4:]
    for path in host.glob("proc/*/cgroup"):
        path.write_bytes(path.read_bytes().replace(other.encode(), twin.encode()))
    answer = nsinspect("--root", str(host), "show", one[:4])

    assert answer.returncode == 4
    assert one.encode() in answer.stderr
    assert twin.encode() in answer.stderr


def test_a_directory_that_is_no_host_is_6_and_says_what_is_missing(tmp_path: Path):
    """--root of something else exits 6 naming what was looked for."""
    answer = nsinspect("--root", str(tmp_path), "list")
    assert answer.returncode == 6
    assert (
        answer.stderr
        == f"nsinspect: {tmp_path}/proc: cannot be opened as a directory: No such file or directory\n".encode()
    )

    (tmp_path / "proc").mkdir()
    answer = run("--root", str(tmp_path), "list")
    assert answer.returncode == 6
    assert b"expected a procfs with processes" in answer.stderr


def test_usage_is_2():
    """An unknown option or command exits 2."""
    assert nsinspect("list", "--nope").returncode == 2
    assert run("nope").returncode == 2


def test_strict_is_5_when_something_could_not_be_read(host: Path):
    """A file nobody understands is an issue; with --strict also an exit code."""
    limit = next(host.glob("sys/fs/cgroup/memory/docker/*/memory.limit_in_bytes"))
    limit.write_bytes(b"a lot\n")
    answer = nsinspect("--root", str(host), "list", "--json", "--strict")
    whole = json.loads(answer.stdout)
    (issue,) = [issue for issue in whole["issues"] if issue["kind"] == "malformed"]
    (unknown,) = [c for c in whole["containers"] if c["limits"]["memory"]["own"]["max_bytes"] is None]

    assert answer.returncode == 5
    assert issue["path"].endswith("/memory.limit_in_bytes")
    assert issue["detail"] == "expected a number of bytes, found 'a lot\\n'"
    assert unknown["id"] in issue["path"]
    assert unknown["limits"]["memory"]["effective"]["max_bytes"] is None


def test_a_hostile_comm_harms_neither_terminal_nor_json(host: Path):
    """Escape sequences, markup, a newline and a byte that is no UTF-8 are spelled out everywhere."""
    init = init_of(host, "web")
    stat = (init / "stat").read_bytes()
    (init / "stat").write_bytes(stat.replace(b"(sleep)", b"(" + HOSTILE + b")"))
    page = nsinspect("--root", str(host), "show", "web")
    answer = run("--root", str(host), "show", "web", "--json")

    assert page.returncode == answer.returncode == 0
    assert b"\x1b" not in page.stdout + answer.stdout
    assert b"\xff" not in page.stdout
    assert rb"\x1b]0;owned\x07[/red]\xff\x0a" in page.stdout
    assert json.loads(answer.stdout)["container"]["init"]["comm"] == r"\x1b]0;owned\x07[/red]\xff\x0a"


def test_a_hostile_name_in_a_state_file_harms_nothing(host: Path):
    """A container's name, image and labels are claims in a file, and shown as such."""
    container = json.loads(run("--root", str(host), "show", "plain", "--json").stdout)["container"]
    (config,) = host.glob(f"**/{container['id']}/config.v2.json")
    state = json.loads(config.read_bytes())
    state["Name"] = "/\x1b[2Jpwned\u202e\n"
    state["Config"]["Labels"] = {"\x1b[31m": "\ud800"}
    config.write_text(json.dumps(state))
    whole = nsinspect("--root", str(host), "list").stdout + run("--root", str(host), "list", "--json").stdout

    assert b"\x1b" not in whole
    assert rb"\x1b[2Jpwned\u202e\x0a" in whole


def test_a_container_is_found_by_every_name_it_has():
    """Name, id, prefix, cgroup path and a member's pid lead to the same container."""
    root = ("--root", str(HOSTS / "docker-hybrid"))
    whole = run(*root, "show", "web", "--json").stdout
    web = json.loads(whole)["container"]
    for wanted in (web["id"], web["id"][:4], web["cgroup"]["path"], f"pid:{web['pids'][-1]}"):
        assert whole == run(*root, "show", wanted, "--json").stdout


def test_a_closed_pipe_is_silent():
    """``nsinspect list | head -1`` leaves no traceback."""
    command = f"{sys.executable} -m nsinspect --root {HOSTS / 'docker-hybrid'} list --json | head -c 1"
    answer = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=60, cwd=HERE.parent)

    assert answer.stderr == b""


@pytest.mark.parametrize("words", ["list", "findings --json", "--help"])
def test_an_answer_that_cannot_be_written_is_6_with_one_line(words: str):
    """On a full disk 1 would mean that something was found."""
    command = f"{sys.executable} -m nsinspect --root {HOSTS / 'docker-hybrid'} {words} > /dev/full"
    answer = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=60, cwd=HERE.parent)

    assert answer.returncode == 6
    assert answer.stderr == b"nsinspect: the answer could not be written: No space left on device\n"


@pytest.mark.parametrize("words", ["list", "--version"])
def test_without_a_stdout_it_answers_nobody(words: str):
    """Nothing that is opened takes its place."""
    command = f"{sys.executable} -m nsinspect --root {HOSTS / 'docker-hybrid'} {words} >&-"
    answer = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=60, cwd=HERE.parent)

    assert (answer.returncode, answer.stderr) == (0, b"")


@pytest.mark.parametrize("words", [["list"], ["show", "web"], ["ns"]])
def test_a_terminal_one_column_wide_that_can_do_nothing_gets_plain_text(words: list[str]):
    """TERM=dumb: no colours, no cursor, no traceback."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (1, 1))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        [sys.executable, "-m", "nsinspect", "--root", str(HOSTS / "docker-hybrid"), *words],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**environment, "TERM": "dumb", "PYTHONPATH": str(HERE.parent)},
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO is a terminal's end
            while part := os.read(ours, 1 << 16):
                shown += part
        os.close(ours)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert shown.strip()
    assert b"\x1b" not in shown


def test_a_terminal_that_cannot_show_a_character_gets_an_escape():
    """With an ASCII stdout the bars are escapes, not a traceback."""
    root = str(HOSTS / "docker-hybrid")
    answer = nsinspect("--root", root, "show", "web", PYTHONIOENCODING="ascii")

    assert answer.returncode == 0
    assert rb"\u2581" in answer.stdout


def test_procfs_and_cgroupfs_can_be_named_apart(host: Path):
    """--procfs and --cgroupfs override one root each."""
    (host / "proc").rename(host.parent / "p")
    (host / "sys/fs/cgroup").rename(host.parent / "c")
    answer = run("--root", str(host), "--procfs", str(host.parent / "p"), "--cgroupfs", str(host.parent / "c"), "list")

    assert answer.stdout == (HERE / "golden/docker-hybrid/list.txt").read_bytes()


def test_starting_loads_nothing_that_is_not_needed():
    """--version imports neither rich, psutil, pyroute2 nor prometheus_client, nor does list --json of a copy."""
    code = (
        "import sys; sys.argv = ['nsinspect', *sys.argv[1:]]\n"
        "import nsinspect.cli\n"
        "try: nsinspect.cli.main()\n"
        "except SystemExit: print([m for m in ('rich', 'psutil', 'pyroute2', 'prometheus_client') if m in sys.modules])"
    )
    root = ("--root", str(HOSTS / "docker-hybrid"))
    for arguments, loaded in ((("--version",), "[]"), ((*root, "list", "--json"), "[]")):
        command = [sys.executable, "-c", code, *arguments]
        answer = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60, cwd=HERE.parent)
        assert answer.stdout.splitlines()[-1] == loaded
