"""podman and crun on a pure cgroup v2 kernel, and on one with v1 hierarchies: the same flags, the same meaning."""

from __future__ import annotations

import json
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.live.flag_files import ROWS
from tests.live.uml import V1, V2, Uml

HERE = Path(__file__).parent
MIB = 1 << 20
DEFAULT_11 = "0x00000000800405fb"

CONTAINERS = {
    "web": "--memory 64m --memory-swap 128m --cpus 0.5 --pids-limit 40",
    "no-swap": "--memory 64m --memory-swap 64m",
    "reserved": "--memory 64m --memory-reservation 32m --cap-add NET_ADMIN --cap-drop CHOWN",
    "privileged": "--privileged --pids-limit -1",
    "user": "--user 1000 --security-opt no-new-privileges",
    "hosts": "--pid host --net host --ipc host --uts host --security-opt seccomp=unconfined",
    "joined": "--network container:web --read-only",
}

SCRIPT = """
set -e
podman() {{ command podman --cgroup-manager cgroupfs --storage-driver vfs "$@"; }}
podman import -q {rootfs} bb >&2
{starts}
podman exec -d --privileged web sleep 998 >&2
podman exec -d no-swap sleep 997 >&2
sleep 0.3
ask() {{ {python} -m nsinspect "$@"; }}
printf '{{'
printf '"list": '; ask list --json
printf ', "strict": '; ask list --json --strict >/dev/null && echo 0 || echo $?
printf ', "oracle": '; {python} {here}/oracle.py
printf ', "rows": {{'
{rows}
printf '"": 0}}'
printf ', "powerful": %s' $(pgrep -x -f 'sleep 998')
printf ', "findings": '; ask findings --json || test $? = 1
printf ', "inspect": '; podman inspect $(podman ps -q)
printf '}}'
ask show web >&2
"""


ROW = """
id=$(podman run -d --network none {flag} bb sleep 1000)
printf '"{number}": {{'
for file in cpu.max cpu.weight memory.max memory.swap.max memory.low pids.max; do
    at=/sys/fs/cgroup/libpod_parent/libpod-$id/$file
    if [ -e $at ]; then printf '"%s": "%s", ' $file "$(cat $at)"; fi
done
printf '"document": '; ask show $id --json; printf '}},'
podman rm -f -t 0 $id >&2
"""


@pytest.fixture(scope="module")
def kernels(rootfs: Path) -> dict[str, dict[str, Any]]:
    """Everything asked on each kernel: podman's word, nsinspect's and the other tools'.  Each takes one processor for
    more than a minute, so they run at the same time."""
    with ThreadPoolExecutor() as pool:
        begun = {version: pool.submit(asked, rootfs, version) for version in ("v2", "v1")}
        return {version: one.result() for version, one in begun.items()}


@pytest.fixture(scope="module", params=["v2", "v1"])
def answers(request: pytest.FixtureRequest, kernels: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of one of them."""
    return kernels[request.param]


def asked(rootfs: Path, version: str) -> dict[str, Any]:
    """On a kernel of its own."""
    starts = "\n".join(
        f"podman run -d --name {name} {'' if '--net' in flags else '--network none'} {flags} bb sleep 1000 >&2"
        for name, flags in CONTAINERS.items()
    )
    # cpuset is not in this kernel.
    rows = "\n".join(
        ROW.format(number=number, flag=row.flag) for number, row in enumerate(ROWS) if "cpuset" not in row.flag
    )
    words = {"rows": rows, "rootfs": rootfs, "starts": starts, "python": shlex.quote(sys.executable), "here": HERE}
    uml = Uml(cgroups={"v1": V1, "v2": V2}[version])
    found: dict[str, Any] = json.loads(uml.run(SCRIPT.format(**words), timeout=240))
    found["version"] = version
    found["page"] = uml.stderr
    return found


@pytest.fixture
def containers(answers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Containers of ``list --json`` by name."""
    return {container["name"]: container for container in answers["list"]["containers"]}


def test_the_host_is_what_was_mounted(answers: dict[str, Any]):
    """v2 alone is v2, v1 alone is v1; nothing was unreadable."""
    assert answers["list"]["host"]["cgroup"] == answers["version"]
    assert answers["strict"] == 0


def test_documents_obey_the_schema(answers: dict[str, Any]):
    """What another kernel gives is valid too."""
    schema = json.loads((HERE.parents[1] / "nsinspect/schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(answers["list"])


def test_identity_is_what_podman_says(answers: dict[str, Any], containers: dict[str, dict[str, Any]]):
    """Ids, pids, images and names agree with podman inspect; conmon is no container."""
    theirs = {one["Name"]: one for one in answers["inspect"]}

    assert set(theirs) == set(CONTAINERS) == set(containers)
    for name, container in containers.items():
        assert container["id"] == theirs[name]["Id"]
        assert container["init"]["pid"] == theirs[name]["State"]["Pid"]
        assert container["image"] == theirs[name]["ImageName"]
        assert container["runtime"] == "podman"
        assert container["cgroup"]["path"] == f"/libpod_parent/libpod-{container['id']}"


def test_limits_are_those_of_the_flags(containers: dict[str, dict[str, Any]]):
    """The same flags mean the same on v1 and on v2."""
    web = containers["web"]["limits"]
    assert web["memory"]["own"]["max_bytes"] == 64 * MIB
    assert web["memory"]["own"]["swap_max_bytes"] == 64 * MIB
    assert web["cpu"]["own"]["cores"] == web["cpu"]["effective"]["cores"] == 0.5
    assert web["pids"]["own"]["max"] == 40
    assert containers["no-swap"]["limits"]["memory"]["own"]["swap_max_bytes"] == 0
    assert containers["reserved"]["limits"]["memory"]["own"]["reservation_bytes"] == 32 * MIB
    assert containers["privileged"]["limits"]["pids"]["own"]["max"] == "max"
    assert containers["user"]["limits"]["memory"]["own"]["max_bytes"] == "max"
    assert containers["user"]["limits"]["memory"]["own"]["swap_max_bytes"] == "max"


def test_privileges_are_those_of_the_flags(containers: dict[str, dict[str, Any]]):
    """Capabilities against podman's own default, real --privileged, users and no-new-privileges."""
    reserved = containers["reserved"]["capabilities"]
    assert (reserved["added"], reserved["dropped"]) == (["CAP_NET_ADMIN"], ["CAP_CHOWN"])
    privileged = containers["privileged"]
    assert privileged["security"]["privileged"] is True
    assert privileged["capabilities"]["effective"]["mask"] == "0x000001ffffffffff"
    assert [name for name, one in containers.items() if one["security"]["privileged"]] == ["privileged"]
    user = containers["user"]
    assert (user["init"]["uid"], user["security"]["no_new_privs"]) == (1000, True)
    assert user["capabilities"]["effective"]["names"] == []
    assert containers["web"]["capabilities"]["bounding"]["mask"] == DEFAULT_11
    assert containers["hosts"]["security"]["seccomp"] == "disabled"


def test_an_exec_with_privileges_is_an_outlier(containers: dict[str, dict[str, Any]], answers: dict[str, Any]):
    """exec --privileged stands out with what init has not; a plain exec does not."""
    (outlier,) = containers["web"]["capabilities"]["outliers"]

    assert "CAP_SYS_ADMIN" in outlier["extra"]
    assert outlier["missing"] == []
    assert len(containers["no-swap"]["pids"]) == 2
    assert containers["no-swap"]["capabilities"]["outliers"] == []
    assert f"process {outlier['pid']} sleep can do more than init: " in answers["page"]


def test_it_is_all_that_stands_out(containers: dict[str, dict[str, Any]], answers: dict[str, Any]):
    """By an engine's hand, and once; neither a plain exec, nor the host's namespaces, nor another's network do."""
    (finding,) = answers["findings"]["findings"]
    status = f"/proc/{answers['powerful']}/status"
    (powers,) = [one["what"] for one in finding["evidence"] if one["says"] == status]

    assert (finding["kind"], finding["severity"], finding["technique"]["id"]) == ("more_power", "high", "T1609")
    assert finding["container"] == containers["web"]["id"]
    assert finding["pid"] == finding["tid"] == answers["powerful"]
    assert finding["pids"] == [answers["powerful"]]
    assert "CAP_SYS_ADMIN" in powers.split()


def test_namespaces_are_those_of_the_flags(containers: dict[str, dict[str, Any]]):
    """The host's, one's own, and those of another container."""
    shared = {name: {k for k, n in one["namespaces"].items() if n and n["host"]} for name, one in containers.items()}

    assert {"pid", "net", "ipc", "uts"} <= shared["hosts"]
    assert not {"pid", "net", "ipc", "uts", "mnt"} & shared["web"]
    assert containers["joined"]["namespaces"]["net"]["shared_with"] == [containers["web"]["id"]]
    assert containers["joined"]["security"]["read_only_rootfs"] is True


def test_namespaces_and_capabilities_are_what_other_tools_see(answers: dict[str, Any]):
    """lsns and getpcaps agree for every process of every container."""
    assert answers["oracle"]["differences"] == []
    assert answers["oracle"]["compared"] >= len(CONTAINERS) + 2


def test_a_flag_becomes_what_the_page_says(answers: dict[str, Any]):
    """docs/flags.md, row by row, on v2: the kernel's files, and the field."""
    for number, row in enumerate(ROWS):
        found = answers["rows"].get(str(number))
        if found is None:
            assert "cpuset" in row.flag
            continue
        if answers["version"] == "v2":
            for file, values in row.v2:
                assert found[file] in values, row.flag
        document: Any = found["document"]["container"]
        shares = row.field == "limits.cpu.own.shares"
        for part in row.field.split("."):
            document = document[part]
        # Shares do not exist on v2; the weight says which they may have been.
        assert document == (None if shares and answers["version"] == "v2" else row.value), row.flag
