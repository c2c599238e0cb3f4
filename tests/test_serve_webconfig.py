"""The web configuration: what is accepted, how the rest is refused in one line, and what a changed file means."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pty
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsinspect.serve import webconfig
from nsinspect.serve.webconfig import ConfigError, Rotating, Tls, WebConfig, exposure

FUZZ = settings(deadline=None, max_examples=100)
CHECKOUT = Path(__file__).parents[1]
HASH = "$2b$04$StwhjIaBkkhG.K8gj5Y0N.drLN7//gqWVeKlCRjQ2.QyjTGkclJpm"
REQUIRED = "RequireAndVerifyClientCert"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``one``, ``two`` and ``client``: self-signed ``.pem`` and ``.key``; ``locked.key`` is one's with a passphrase."""
    made = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=made, check=True, capture_output=True, timeout=30)

    for name in ("one", "two", "client"):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}.example"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )
    openssl("pkcs8", "-topk8", "-in", "one.key", "-passout", "pass:correct horse", "-out", "locked.key")
    return made


@pytest.fixture
def folder(tmp_path: Path, certificates: Path) -> Path:
    """A folder with ``server.pem`` and ``server.key`` of certificate one, and ``client.pem``."""
    shutil.copy(certificates / "one.pem", tmp_path / "server.pem")
    shutil.copy(certificates / "one.key", tmp_path / "server.key")
    shutil.copy(certificates / "client.pem", tmp_path / "client.pem")
    return tmp_path


def put(path: Path, content: str | bytes) -> None:
    """Write a file as careful programs do: beside it, then renamed."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    beside.replace(path)


def read(folder: Path, content: object) -> WebConfig:
    """Read text as it is, and anything else as JSON, which is YAML."""
    path = folder / "web.yml"
    put(path, content if isinstance(content, str | bytes) else json.dumps(content))
    return webconfig.read(str(path))


def refused(folder: Path, content: object) -> str:
    """The one line that refuses it; it names the file."""
    with pytest.raises(ConfigError) as caught:
        read(folder, content)
    line = str(caught.value)
    assert line.isprintable()
    assert line.startswith(f"{folder}/web.yml: ")
    assert "expected " in line
    return line


def tls(**keys: object) -> dict[str, object]:
    """A document with a pair and ``keys`` besides."""
    return {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key", **keys}}


# -- reading -----------------------------------------------------------------------------------------------------------


def test_every_key_is_read(tmp_path: Path):
    """All that the documentation of the exporter-toolkit names and this exporter has."""
    config = read(
        tmp_path,
        f"""
tls_server_config:
  cert_file: server.pem
  key_file: /etc/nsinspect/server.key
  client_ca_file: ../ca.pem
  client_auth_type: {REQUIRED}
  client_allowed_sans: [prometheus.example, "spiffe://cluster/prometheus"]
  min_version: TLS13
http_server_config:
  http2: false
  headers:
    Content-Security-Policy: default-src 'self'
    Strict-Transport-Security: max-age=31536000
    X-Content-Type-Options: nosniff
    X-Frame-Options: SAMEORIGIN
    X-XSS-Protection: "0"
basic_auth_users:
  alice: {HASH}
  böb: {HASH.replace("$2b$", "$2y$")}
""",
    )

    assert config == WebConfig(
        path=f"{tmp_path}/web.yml",
        tls=Tls(
            cert_file=f"{tmp_path}/server.pem",
            key_file="/etc/nsinspect/server.key",
            client_ca_file=f"{tmp_path}/../ca.pem",
            client_auth=ssl.CERT_REQUIRED,
            client_allowed_sans=("prometheus.example", "spiffe://cluster/prometheus"),
            min_version=ssl.TLSVersion.TLSv1_3,
        ),
        users={"alice": HASH, "böb": HASH.replace("$2b$", "$2y$")},
        headers={
            "Content-Security-Policy": "default-src 'self'",
            "Strict-Transport-Security": "max-age=31536000",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "SAMEORIGIN",
            "X-XSS-Protection": "0",
        },
    )
    assert config.authenticates


@pytest.mark.parametrize(
    "content",
    ["{}", "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n"],
    ids=["mapping", "keys without values"],
)
def test_nothing_said_is_plain_http_for_everybody(tmp_path: Path, content: str):
    """As with Prometheus' own exporters."""
    config = read(tmp_path, content)

    assert config == WebConfig(path=f"{tmp_path}/web.yml")
    assert not config.authenticates


def test_what_is_left_out_has_the_safe_default(tmp_path: Path):
    """TLS 1.2 at least, and no client certificate asked for."""
    found = read(tmp_path, tls()).tls

    assert found is not None
    assert (found.min_version, found.client_auth, found.client_ca_file) == (
        ssl.TLSVersion.TLSv1_2,
        ssl.CERT_NONE,
        None,
    )
    assert found.files == (f"{tmp_path}/server.pem", f"{tmp_path}/server.key")


def test_paths_are_relative_to_the_configuration_not_to_where_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also when the configuration itself is named relatively, and the working directory changes afterwards."""
    (tmp_path / "etc").mkdir()
    put(tmp_path / "etc/web.yml", json.dumps(tls()))
    monkeypatch.chdir(tmp_path)
    config = webconfig.read("etc/web.yml")

    assert config.tls is not None
    assert config.tls.files == (f"{tmp_path}/etc/server.pem", f"{tmp_path}/etc/server.key")


# -- refusing ----------------------------------------------------------------------------------------------------------

LONG = "x" * 5000
BAD = [
    # what is wrong, the document, what the line must say
    ("a text", "hello", "web configuration: expected a mapping"),
    ("a list", ["tls_server_config"], "web configuration: expected a mapping"),
    ("a number", 5, "web configuration: expected a mapping"),
    ("unknown key", {"tls": {}}, "found 'tls'"),
    ("key that is no text", "1: 2", "found 1"),
    ("nothing", "", "web configuration: expected a mapping, found nothing"),
    ("nothing but a comment", "# nothing\n", "web configuration: expected a mapping, found nothing"),
    ("null", "null", "web configuration: expected a mapping, found nothing"),
    ("a capital letter", {"Basic_auth_users": {}}, "found 'Basic_auth_users'"),
    ("tls is a text", {"tls_server_config": "on"}, "tls_server_config: expected a mapping"),
    ("tls is a list", {"tls_server_config": ["cert_file"]}, "tls_server_config: expected a mapping"),
    ("unknown tls key", tls(cipher_suites=[]), "tls_server_config: expected one of cert_file, key_file,"),
    ("no certificate", {"tls_server_config": {"key_file": "k"}}, "cert_file: expected a text, found None"),
    ("no key", {"tls_server_config": {"cert_file": "c"}}, "key_file: expected a text, found None"),
    ("empty certificate", tls(cert_file=""), "cert_file: expected a text, found ''"),
    ("certificate is a number", tls(cert_file=5), "cert_file: expected a text, found 5"),
    ("key is a list", tls(key_file=["a", "b"]), "key_file: expected a text"),
    ("authority is a list", tls(client_ca_file=["a"], client_auth_type=REQUIRED), "client_ca_file: expected a text"),
    ("old version", tls(min_version="TLS10"), "min_version: expected one of TLS12, TLS13, found 'TLS10'"),
    ("version is a number", tls(min_version=1.3), "min_version: expected one of TLS12, TLS13, found 1.3"),
    ("version is a list", tls(min_version=["TLS13"]), "min_version: expected one of TLS12, TLS13"),
    ("version is a mapping", tls(min_version={"a": 1}), "min_version: expected one of TLS12, TLS13"),
    ("auth that Python has not", tls(client_auth_type="RequestClientCert"), "found 'RequestClientCert'"),
    ("auth is a number", tls(client_auth_type=4), "client_auth_type: expected one of NoClientCert,"),
    ("auth is a list", tls(client_auth_type=[REQUIRED]), "client_auth_type: expected one of NoClientCert,"),
    ("auth without authority", tls(client_auth_type=REQUIRED), "client_auth_type: expected a client_ca_file"),
    ("authority without auth", tls(client_ca_file="ca.pem"), "client_auth_type: expected a client_ca_file"),
    (
        "authority nobody checks",
        tls(client_ca_file="ca.pem", client_auth_type="NoClientCert"),
        "client_auth_type: expected a client_ca_file",
    ),
    ("names without auth", tls(client_allowed_sans=["a"]), "client_allowed_sans: expected client_auth_type Require"),
    (
        "names with optional auth",
        tls(client_ca_file="ca.pem", client_auth_type="VerifyClientCertIfGiven", client_allowed_sans=["a"]),
        "client_allowed_sans: expected client_auth_type Require",
    ),
    ("names are a text", tls(client_allowed_sans="a"), "client_allowed_sans: expected a list of texts, found 'a'"),
    ("names have a number", tls(client_allowed_sans=["a", 5]), "client_allowed_sans: expected a list of texts"),
    ("names have an empty one", tls(client_allowed_sans=[""]), "client_allowed_sans: expected a list of texts"),
    ("http is a text", {"http_server_config": "x"}, "http_server_config: expected a mapping"),
    ("unknown http key", {"http_server_config": {"http3": True}}, "expected one of headers, http2, found 'http3'"),
    ("http2 is no switch", {"http_server_config": {"http2": "please"}}, "http2: expected "),
    ("headers are a list", {"http_server_config": {"headers": ["a"]}}, "headers: expected a mapping"),
    ("header is a number", {"http_server_config": {"headers": {"X-XSS-Protection": 0}}}, "X-XSS-Protection: expected"),
    ("header is empty", {"http_server_config": {"headers": {"X-Frame-Options": ""}}}, "X-Frame-Options: expected"),
    ("header is a list", {"http_server_config": {"headers": {"X-Frame-Options": []}}}, "X-Frame-Options: expected"),
    ("users are a list", {"basic_auth_users": ["alice"]}, "basic_auth_users: expected a mapping"),
    ("long value", tls(min_version=LONG), "min_version: expected one of TLS12, TLS13, found 'xxx"),
    ("control characters", tls(min_version="a\x1b[31m\nb\u202e"), r"found 'a\x1b[31m\nb\u202e'"),
]


@pytest.mark.parametrize(("content", "says"), [(b, s) for _, b, s in BAD], ids=[name for name, _, _ in BAD])
def test_a_bad_value_is_named_with_what_was_expected(tmp_path: Path, content: object, says: str):
    """One line for each; nothing is guessed."""
    line = refused(tmp_path, content)

    assert says in line
    assert len(line) < len(str(tmp_path)) + 400


WRONG_EMPTIES = [
    (key, empty)
    for key in ("tls_server_config", "basic_auth_users", "http_server_config", "headers", "min_version")
    for empty in (False, 0, [], "")
]


@pytest.mark.parametrize(("key", "empty"), WRONG_EMPTIES, ids=[f"{key}={empty!r}" for key, empty in WRONG_EMPTIES])
def test_an_empty_value_of_the_wrong_type_is_not_taken_for_nothing(tmp_path: Path, key: str, empty: object):
    """``basic_auth_users: []`` is a mistake, and must not open the exporter to everybody."""
    documents: dict[str, object] = {
        "headers": {"http_server_config": {"headers": empty}},
        "min_version": tls(min_version=empty),
    }

    assert key in refused(tmp_path, documents.get(key, {key: empty}))


@pytest.mark.parametrize(
    "content",
    [
        "a: b: c",
        "basic_auth_users: {",
        "\tx: 1",
        b"\xff\xfe\xfa",
        b"a: \x00",
        "a: !!python/object/apply:os.system [true]",
        "a: 2001-99-99",
        "&a [*b]",
        "--- 1\n--- 2\n",
        "[" * 400,
        "? [a]\n: b",
        'a: !!int ""',
        'a: !!float ""',
        "a: !!bool maybe",
        "a: !!timestamp never",
        "a: !!binary ä",
    ],
    ids=[
        *("two colons", "unclosed", "tab", "no text", "NUL", "a Python object", "no date", "unknown anchor"),
        *("two documents", "deep", "key is a list", "no int", "no float", "no bool", "no timestamp", "no base64"),
    ],
)
def test_what_is_no_yaml_is_refused(tmp_path: Path, content: str | bytes):
    """Including what PyYAML itself stumbles over."""
    refused(tmp_path, content)


def test_the_line_of_broken_yaml_is_named(tmp_path: Path):
    """Counted from 1."""
    assert "in line 3" in refused(tmp_path, "basic_auth_users:\n  alice: x\n  bob: y: z\n")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path):
    """Missing, a directory, or too large."""
    for name, reason in (("nothing", "No such file or directory"), (".", "Is a directory")):
        with pytest.raises(ConfigError, match=reason) as caught:
            webconfig.read(f"{tmp_path}/{name}")
        assert str(caught.value).startswith(f"{tmp_path}/{name}: expected ")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is not even parsed."""
    monkeypatch.setattr(webconfig, "MAX_BYTES", 100)

    assert "expected at most 100 bytes" in refused(tmp_path, b"{" * 101)
    assert read(tmp_path, b"{}" + b"#".rjust(98)).users == {}


def test_aliases_that_multiply_are_refused_without_being_written_out(tmp_path: Path):
    """A few hundred bytes stand for a value of terabytes; quoting 80 characters of it needs no memory."""
    lines = [f"&a0 ['{'x' * 1000}']"] + [f"&a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 14)]
    put(tmp_path / "web.yml", f"tls_server_config: {{cert_file: c, key_file: [{', '.join(lines)}]}}")
    code = (
        "import resource, sys; from nsinspect.serve import webconfig\n"
        "import yaml; resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))\n"
        "try: webconfig.read(sys.argv[1])\n"
        "except webconfig.ConfigError as error: print(error)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "web.yml")],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert (answer.returncode, answer.stderr[-20:]) == (0, "")
    assert "key_file: expected a text" in answer.stdout


SECRET = "hunter2"
UNHASHED = [
    ("plain", {"basic_auth_users": {"alice": SECRET}}),
    ("a list", {"basic_auth_users": {"alice": [SECRET]}}),
    ("below a password key", {"basic_auth_users": {"alice": {"password": SECRET}}}),
    ("user is a number", f"basic_auth_users:\n  1000: {SECRET}\n"),
    ("one of the users is a number", f"basic_auth_users:\n  alice: {HASH}\n  7: {SECRET}\n"),
    ("user is a YAML truth", f"basic_auth_users:\n  on: {SECRET}\n"),
    ("no space after the colon", f"basic_auth_users:\n  alice:{SECRET}\n"),
    ("list of users", f"basic_auth_users:\n  - alice: {SECRET}\n"),
    ("list of texts", f"basic_auth_users:\n  - alice:{SECRET}\n"),
    ("users at the top beside a number", f"5: x\nbasic_auth_users:\n  alice: {SECRET}\n"),
    ("a whole htpasswd file", f"alice:{SECRET}\n"),
    ("document is a list", f"- basic_auth_users:\n    alice: {SECRET}\n"),
    ("broken YAML", f"basic_auth_users:\n  alice: {SECRET}: x\n"),
    ("unclosed", f'basic_auth_users:\n  alice: "{SECRET}\n'),
    ("a tag", f"basic_auth_users:\n  alice: !{SECRET} x\n"),
    ("not a number after all", f"basic_auth_users:\n  alice: !!int {SECRET}\n"),
]


@pytest.mark.parametrize("content", [content for _, content in UNHASHED], ids=[name for name, _ in UNHASHED])
def test_a_password_that_nobody_hashed_is_never_quoted(tmp_path: Path, content: object):
    """The line goes to the journal, which more people read than the file."""
    assert SECRET not in refused(tmp_path, content)


@pytest.mark.parametrize(
    "hashed",
    [
        pytest.param("", id="empty"),
        pytest.param(HASH[:-1], id="short"),
        pytest.param(HASH + "x", id="long"),
        pytest.param(HASH + "\n", id="newline"),
        pytest.param(HASH.replace("$2b$", "$2c$"), id="unknown kind"),
        pytest.param(HASH.replace("$04$", "$4$"), id="cost of one digit"),
        pytest.param(HASH.replace("$04$", "$03$"), id="cost that bcrypt refuses, low"),
        pytest.param(HASH.replace("$04$", "$32$"), id="cost that bcrypt refuses, high"),
        pytest.param("$1$abc$" + "x" * 22, id="md5-crypt"),
        pytest.param(5, id="number"),
        pytest.param(None, id="null"),
    ],
)
def test_what_is_no_bcrypt_hash_is_refused_and_names_the_user(tmp_path: Path, hashed: object):
    """One that can never match is refused now and not at every request."""
    line = refused(tmp_path, {"basic_auth_users": {"alice": hashed}})

    assert "basic_auth_users: 'alice': expected a bcrypt hash" in line
    assert "\n" not in line


@pytest.mark.parametrize("kind", ["$2a$", "$2b$", "$2y$"])
def test_every_usual_kind_of_bcrypt_hash_is_taken(tmp_path: Path, kind: str):
    """htpasswd writes 2y, Python 2b, older programs 2a."""
    hashed = HASH.replace("$2b$", kind)

    assert read(tmp_path, {"basic_auth_users": {"a": hashed}}).users == {"a": hashed}


@pytest.mark.parametrize("name", ["Server", "Set-Cookie", "x-frame-options", "Content-Length", "X-Frame-Options "])
def test_only_known_headers_may_be_set(tmp_path: Path, name: str):
    """The list of the exporter-toolkit, spelled as it is there."""
    line = refused(tmp_path, {"http_server_config": {"headers": {name: "x"}}})

    assert "headers: expected one of Content-Security-Policy, Strict-Transport-Security, X-Content" in line
    assert f"found {name!r}" in line


@pytest.mark.parametrize(
    "value",
    ["DENY\r\nSet-Cookie: a=b", "DENY\nX: y", "DENY\r", "a\0b", "a\x7fb", "a\x85b", "ä", "a\u2028b", "\t", "a\tb"],
)
def test_a_header_cannot_carry_another_one(tmp_path: Path, value: str):
    """Line breaks in any clothing, controls and what is no ASCII."""
    line = refused(tmp_path, {"http_server_config": {"headers": {"X-Frame-Options": value}}})

    assert "X-Frame-Options: expected one line of ASCII" in line
    assert "\n" not in line


@pytest.mark.parametrize("value", ["DENY", "a  b", " DENY", "DENY ", " "], ids=repr)
def test_a_header_that_is_taken_can_be_sent(tmp_path: Path, value: str):
    """HTTP forbids spaces around a value; one that h11 refuses later would fail every request."""
    try:
        config = read(tmp_path, {"http_server_config": {"headers": {"X-Frame-Options": value}}})
    except ConfigError:
        assert value != value.strip()
        return
    h11.Response(status_code=200, headers=list(config.headers.items()))


KEYS = st.sampled_from(
    [
        *("tls_server_config", "http_server_config", "basic_auth_users", "headers", "http2", *webconfig.HEADERS),
        *("cert_file", "key_file", "client_ca_file", "client_auth_type", "client_allowed_sans", "min_version"),
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from([REQUIRED, "TLS13", HASH])
VALUES = (
    LEAVES
    | st.lists(LEAVES, min_size=1, max_size=2)
    | st.dictionaries(KEYS | st.text(max_size=3), LEAVES | st.lists(LEAVES, max_size=1), max_size=3)
)
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "tls_server_config": VALUES
        | st.fixed_dictionaries(
            {"cert_file": st.just("c"), "key_file": st.just("k")},
            optional=dict.fromkeys(
                ("client_ca_file", "client_auth_type", "client_allowed_sans", "min_version"),
                VALUES,
            ),
        ),
        "http_server_config": VALUES | st.fixed_dictionaries({"headers": st.dictionaries(KEYS, VALUES, max_size=2)}),
        "basic_auth_users": VALUES,
    },
)


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for many examples."""
    return tmp_path_factory.mktemp("fuzz")


def only_complains(folder: Path, content: bytes) -> None:
    """It is read, or refused in one line."""
    path = folder / "web.yml"
    path.write_bytes(content)
    try:
        config = webconfig.read(str(path))
    except ConfigError as error:
        line = str(error)
        assert line.isprintable()
        assert str(path) in line
    else:
        h11.Response(status_code=200, headers=list(config.headers.items()))


@FUZZ
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_refused(anywhere: Path, content: bytes):
    """Only ever ConfigError."""
    only_complains(anywhere, content)


@FUZZ
@given(VALUES | SHAPED)
def test_arbitrary_documents_are_read_or_refused(anywhere: Path, content: object):
    """Only ever ConfigError, with the known keys in all places."""
    only_complains(anywhere, json.dumps(content).encode())


@FUZZ
@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%@` \n#,0~<=.x_", max_size=40))
def test_arbitrary_yaml_is_read_or_refused(anywhere: Path, content: str):
    """Only ever ConfigError, from YAML's own characters."""
    only_complains(anywhere, content.encode())


# -- TLS ---------------------------------------------------------------------------------------------------------------


def pair(folder: Path, cert: str = "one.pem", key: str = "one.key", **more: Any) -> Tls:
    """The TLS of a pair in a folder."""
    return Tls(cert_file=str(folder / cert), key_file=str(folder / key), **more)


def client(certificates: Path | None = None) -> ssl.SSLContext:
    """A client that believes everybody, and shows certificate ``client`` if it has it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificates is not None:
        context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    return context


def shake(server: ssl.SSLContext | None, asking: ssl.SSLContext | None = None) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a handshake in memory.  Raises ``ssl.SSLError`` of whoever refuses."""
    assert server is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        (asking or client()).wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(6):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends


def presented(server: ssl.SSLContext | None) -> str:
    """The PEM certificate that a client is shown."""
    shown = shake(server)[0].getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown)


def test_a_context_serves_its_certificate_over_tls_1_2_at_least(certificates: Path):
    """And speaks HTTP/1.1, and agrees on no new keys when a client asks again."""
    context = pair(certificates).context()

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert presented(context) == (certificates / "one.pem").read_text()
    asking = client()
    asking.set_alpn_protocols(["h2", "http/1.1"])
    assert shake(context, asking)[0].selected_alpn_protocol() == "http/1.1"


def test_the_minimum_version_is_enforced(certificates: Path):
    """A client of TLS 1.2 comes in by default and is refused by TLS13."""
    asking = client()
    asking.maximum_version = ssl.TLSVersion.TLSv1_2

    assert shake(pair(certificates).context(), asking)[0].version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        shake(pair(certificates, min_version=ssl.TLSVersion.TLSv1_3).context(), asking)


def test_a_client_certificate_is_required_and_verified(certificates: Path):
    """None, or one of another authority, does not come in."""
    authority = str(certificates / "client.pem")
    required = pair(certificates, client_ca_file=authority, client_auth=ssl.CERT_REQUIRED).context()
    optional = pair(certificates, client_ca_file=authority, client_auth=ssl.CERT_OPTIONAL).context()
    stranger = pair(certificates, client_ca_file=str(certificates / "two.pem"), client_auth=ssl.CERT_OPTIONAL).context()

    shown = shake(required, client(certificates))[1].getpeercert()
    assert shown is not None
    assert shown["subjectAltName"] == (("DNS", "client.example"),)
    assert shake(optional)[1].getpeercert() is None
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(required)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake(stranger, client(certificates))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"key": "two.key"}, "KEY_VALUES_MISMATCH"),
        ({"cert": "missing.pem"}, "No such file or directory"),
        ({"key": "missing.key"}, "No such file or directory"),
        ({"cert": "."}, ""),
        ({"cert": "one.key"}, ""),
        ({"key": "one.pem"}, ""),
        ({"cert": "a\0b"}, ""),
    ],
    ids=["other key", "no certificate", "no key", "directory", "key as certificate", "certificate as key", "NUL"],
)
def test_a_pair_that_is_none_is_refused(certificates: Path, wrong: dict[str, str], reason: str):
    """In one line, with both paths: which of them is wrong is often not known."""
    broken = pair(certificates, **wrong)
    with pytest.raises(ConfigError) as caught:
        broken.context()

    line = str(caught.value)
    assert line.startswith(f"{broken.cert_file}, {broken.key_file}: expected a PEM certificate and its key")
    assert reason in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["missing.pem", "client.key", "."])
def test_an_authority_that_is_none_is_refused(certificates: Path, name: str):
    """Nobody could come in, or worse."""
    broken = pair(certificates, client_ca_file=str(certificates / name), client_auth=ssl.CERT_REQUIRED)
    with pytest.raises(ConfigError, match="expected PEM certificates of client authorities") as caught:
        broken.context()

    assert str(caught.value).startswith(f"{certificates / name}: ")


def test_an_encrypted_key_never_asks_a_terminal(certificates: Path):
    """With a controlling terminal to ask at, it is refused at once, and nothing is written there."""
    code = (
        "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from nsinspect.serve.webconfig import ConfigError, Tls\n"
        "open('/dev/tty').close()\n"
        "try: Tls(cert_file=sys.argv[1], key_file=sys.argv[2]).context()\n"
        "except ConfigError as error: print(error)\n"
    )
    terminal, inside = pty.openpty()
    try:
        answer = subprocess.run(
            [sys.executable, "-c", code, str(certificates / "one.pem"), str(certificates / "locked.key")],
            stdin=inside,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        os.set_blocking(terminal, False)
        with pytest.raises(BlockingIOError):
            os.read(terminal, 100)
    finally:
        os.close(terminal)
        os.close(inside)

    assert (answer.returncode, answer.stderr) == (0, "")
    assert "without a passphrase" in answer.stdout


# -- rotation ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rotating(folder: Path, caplog: pytest.LogCaptureFixture) -> Rotating:
    """A configuration with a certificate and a user, in ``web.yml``, that has been read once."""
    caplog.set_level(logging.INFO, "nsinspect")
    put(folder / "web.yml", json.dumps({**tls(), "basic_auth_users": {"alice": HASH}}))
    return Rotating(str(folder / "web.yml"))


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_without_a_file_everything_is_plain():
    """And stays so."""
    rotating = Rotating(None)
    rotating.reload()

    assert rotating.context() is None
    assert rotating.config() == WebConfig()
    assert rotating.allowed({})


def test_the_first_configuration_must_be_usable(folder: Path, certificates: Path):
    """There is none before it to stay in force."""
    put(folder / "server.key", (certificates / "two.key").read_bytes())
    put(folder / "web.yml", json.dumps(tls()))
    with pytest.raises(ConfigError, match="KEY_VALUES_MISMATCH"):
        Rotating(str(folder / "web.yml"))
    with pytest.raises(ConfigError, match="No such file"):
        Rotating(str(folder / "nothing.yml"))


@pytest.mark.parametrize("name", ["a\\0b", "a\\ud800b"], ids=["NUL", "surrogate"])
def test_a_path_that_no_file_system_can_hold_is_refused(folder: Path, name: str):
    """YAML can write what a path cannot be."""
    put(folder / "web.yml", f'tls_server_config: {{cert_file: "{name}", key_file: server.key}}')
    with pytest.raises(ConfigError):
        Rotating(str(folder / "web.yml"))


def test_an_unchanged_configuration_gives_the_same_context(rotating: Rotating, caplog: pytest.LogCaptureFixture):
    """Nothing is read again, and nothing is logged."""
    assert rotating.context() is rotating.context()
    assert caplog.messages == []


def test_a_changed_certificate_counts_at_the_next_connection(
    rotating: Rotating, folder: Path, certificates: Path, caplog: pytest.LogCaptureFixture
):
    """Both files renamed into place, without a signal."""
    before = rotating.context()
    put(folder / "server.pem", (certificates / "two.pem").read_bytes())
    put(folder / "server.key", (certificates / "two.key").read_bytes())
    after = rotating.context()

    assert after is not before
    assert presented(before) == (certificates / "one.pem").read_text()
    assert presented(after) == (certificates / "two.pem").read_text()
    assert rotating.context() is after
    assert [message for message in caplog.messages if "read again" in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_certificate_written_in_place_counts_too(rotating: Rotating, folder: Path, certificates: Path):
    """The same inode, with another time."""
    before = rotating.context()
    for suffix in ("pem", "key"):
        path = folder / f"server.{suffix}"
        path.write_bytes((certificates / f"two.{suffix}").read_bytes())
        os.utime(path, (1_000_000_000, 1_000_000_000))
    after = rotating.context()

    assert after is not before
    assert presented(after) == (certificates / "two.pem").read_text()


def test_a_certificate_behind_a_link_counts_when_the_link_is_turned(tmp_path: Path, certificates: Path):
    """As Kubernetes replaces a mounted secret: a link to a folder, renamed over."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for suffix in ("pem", "key"):
            shutil.copy(certificates / f"{name}.{suffix}", tmp_path / name / f"server.{suffix}")
    (tmp_path / "data").symlink_to("one")
    put(tmp_path / "web.yml", json.dumps(tls(cert_file="data/server.pem", key_file="data/server.key")))
    rotating = Rotating(str(tmp_path / "web.yml"))
    assert presented(rotating.context()) == (certificates / "one.pem").read_text()
    (tmp_path / "turned").symlink_to("two")
    (tmp_path / "turned").replace(tmp_path / "data")

    assert presented(rotating.context()) == (certificates / "two.pem").read_text()


def test_a_half_written_pair_keeps_the_old_one_until_its_key_follows(
    rotating: Rotating, folder: Path, certificates: Path, caplog: pytest.LogCaptureFixture
):
    """Said once however many connect meanwhile."""
    before = rotating.context()
    put(folder / "server.pem", (certificates / "two.pem").read_bytes())

    assert [rotating.context() for _ in range(3)] == [before] * 3
    (said,) = errors(caplog)
    assert "KEY_VALUES_MISMATCH" in said
    assert said.endswith("the configuration before it stays in force")
    put(folder / "server.key", (certificates / "two.key").read_bytes())
    assert presented(rotating.context()) == (certificates / "two.pem").read_text()
    assert len(errors(caplog)) == 1


def test_a_missing_certificate_keeps_the_old_one_until_it_is_back(
    rotating: Rotating, folder: Path, certificates: Path, caplog: pytest.LogCaptureFixture
):
    """Removed first and written later."""
    before = rotating.context()
    (folder / "server.pem").unlink()
    assert [rotating.context() for _ in range(3)] == [before] * 3
    assert len(errors(caplog)) == 1
    put(folder / "server.pem", (certificates / "one.pem").read_bytes())

    assert rotating.context() is not before
    assert len(errors(caplog)) == 1


def test_a_configuration_renamed_into_place_counts(rotating: Rotating, folder: Path, certificates: Path):
    """Users, headers, certificate and all; what it no longer names is no longer watched."""
    shutil.copy(certificates / "two.pem", folder / "next.pem")
    shutil.copy(certificates / "two.key", folder / "next.key")
    document = {**tls(cert_file="next.pem", key_file="next.key"), "basic_auth_users": {"bob": HASH}}
    put(folder / "web.yml", json.dumps(document))
    after = rotating.context()
    (folder / "server.pem").unlink()

    assert presented(after) == (certificates / "two.pem").read_text()
    assert rotating.config().users == {"bob": HASH}
    assert rotating.context() is after


BROKEN = ["basic_auth_users: {", "tls_server_config: {cert_file: none.pem, key_file: none.key}", "x: 1"]


@pytest.mark.parametrize("content", [*BROKEN, None], ids=["no YAML", "no certificate", "unknown key", "removed"])
def test_a_configuration_that_became_invalid_keeps_the_old_one(
    rotating: Rotating, folder: Path, caplog: pytest.LogCaptureFixture, content: str | None
):
    """Whole: users and certificate; until it can be used again."""
    before, config = rotating.context(), rotating.config()
    if content is None:
        (folder / "web.yml").unlink()
    else:
        put(folder / "web.yml", content)

    assert [rotating.context() for _ in range(3)] == [before] * 3
    assert rotating.config() is config
    assert len(errors(caplog)) == 1
    put(folder / "web.yml", json.dumps({**tls(), "basic_auth_users": {"bob": HASH}}))
    assert rotating.context() not in (None, before)
    assert rotating.config().users == {"bob": HASH}


def test_reload_raises_and_keeps_the_old_one(rotating: Rotating, folder: Path):
    """Whoever asked for it is told."""
    before, config = rotating.context(), rotating.config()
    put(folder / "web.yml", "nonsense: 1")
    with pytest.raises(ConfigError, match="nonsense"):
        rotating.reload()

    assert (rotating.context(), rotating.config()) == (before, config)


# -- who may come in ---------------------------------------------------------------------------------------------------


def with_names(folder: Path, *names: str) -> Rotating:
    """A configuration that lets clients in by name."""
    keys = {"client_ca_file": "client.pem", "client_auth_type": REQUIRED, "client_allowed_sans": list(names)}
    put(folder / "web.yml", json.dumps(tls(**keys)))
    return Rotating(str(folder / "web.yml"))


@pytest.mark.parametrize(
    ("certificate", "may"),
    [
        ({"subjectAltName": (("DNS", "a.example"),)}, True),
        ({"subjectAltName": (("DNS", "x"), ("URI", "spiffe://a/b"))}, True),
        ({"subjectAltName": (("DNS", "A.example"),)}, False),
        ({"subjectAltName": (("DNS", "a.example.evil"),)}, False),
        ({"subjectAltName": (("DNS", "*.example"),)}, False),
        ({"subjectAltName": (("DNS", ""),)}, False),
        ({"subjectAltName": (("DirName", ((("commonName", "a.example"),),)),)}, False),
        ({"subject": ((("commonName", "a.example"),),)}, False),
        ({}, False),
    ],
    ids=["DNS", "URI", "case", "suffix", "wildcard", "empty", "directory name", "common name", "none"],
)
def test_a_verified_certificate_needs_an_allowed_name(folder: Path, certificate: dict[str, Any], may: bool):
    """One of its alternative names, exactly; its common name is none."""
    assert with_names(folder, "a.example", "spiffe://a/b").allowed(certificate) is may


def test_without_a_list_every_verified_certificate_may(folder: Path):
    """The authority has said enough."""
    assert with_names(folder).allowed({})


def test_the_names_of_a_real_certificate_are_looked_at(folder: Path, certificates: Path):
    """As a handshake gives them."""
    rotating = with_names(folder, "client.example")
    shown = shake(rotating.context(), client(certificates))[1].getpeercert()

    assert shown is not None
    assert rotating.allowed(shown)
    assert not with_names(folder, "other.example").allowed(shown)


# -- what the starter should know --------------------------------------------------------------------------------------

PLAIN = WebConfig()
USERS = WebConfig(users={"a": HASH})
ONLY_TLS = WebConfig(tls=Tls(cert_file="c", key_file="k"))
OPTIONAL = WebConfig(tls=Tls(cert_file="c", key_file="k", client_ca_file="a", client_auth=ssl.CERT_OPTIONAL))
CLIENTS = WebConfig(tls=Tls(cert_file="c", key_file="k", client_ca_file="a", client_auth=ssl.CERT_REQUIRED))
BOTH = dataclasses.replace(ONLY_TLS, users={"a": HASH})


@pytest.mark.parametrize(
    ("config", "all_local", "begins"),
    [
        (PLAIN, True, None),
        (PLAIN, False, "OPEN TO THE NETWORK on 0.0.0.0:10219, [::]:10219: no encryption and no authentication"),
        (USERS, True, "passwords without encryption"),
        (USERS, False, "passwords without encryption"),
        (ONLY_TLS, True, "encryption without authentication"),
        (ONLY_TLS, False, "encryption without authentication"),
        (OPTIONAL, False, "encryption without authentication"),
        (CLIENTS, False, None),
        (BOTH, False, None),
        (BOTH, True, None),
    ],
    ids=[
        *(
            "plain on loopback",
            "plain",
            "users on loopback",
            "users",
            "TLS on loopback",
            "TLS",
            "optional certificates",
        ),
        *("required certificates", "TLS and users", "TLS and users on loopback"),
    ],
)
def test_what_is_open_is_said_exactly(config: WebConfig, all_local: bool, begins: str | None):
    """One warning for one weakness, and none where there is none."""
    warnings = exposure(config, [] if all_local else ["0.0.0.0:10219", "[::]:10219"])

    assert [warning[: len(begins or "")] for warning in warnings] == ([begins] if begins else [])
    assert all(re.fullmatch(r"[ -~]+", warning) for warning in warnings)


def test_a_warning_says_what_to_do_about_it():
    """The flag or the key that mends it."""
    (plain,) = exposure(PLAIN, [":1"])
    (users,) = exposure(USERS, [":1"])

    assert "127.0.0.1" in plain
    assert "--web.config.file" in plain
    assert "tls_server_config" in users
