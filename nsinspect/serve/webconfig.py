"""The web configuration file of Prometheus' exporters, and what it means for TLS and for who may ask.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md, of which these keys are known:
``tls_server_config`` (``cert_file``, ``key_file``, ``client_ca_file``, ``client_auth_type``, ``client_allowed_sans``,
``min_version``), ``http_server_config`` (``headers``, ``http2``) and ``basic_auth_users``.
"""

from __future__ import annotations

import logging
import os
import re
import reprlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nsinspect.errors import NsinspectError

log = logging.getLogger(__name__)

HEADERS = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)
"""The response headers that a file may set."""
# Python asks for a certificate only to verify it, so Go's RequestClientCert and RequireAnyClientCert do not exist here.
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_BCRYPT = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_TYPES = {type(None): "nothing", str: "a text", list: "a list", bool: "true or false", int: "a number"}
MAX_BYTES = 1 << 20


class ConfigError(NsinspectError):
    """The file cannot be used; one line that names the file, the value and what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """``tls_server_config``; paths are absolute."""

    cert_file: str
    key_file: str
    client_ca_file: str | None = None
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    client_allowed_sans: tuple[str, ...] = ()
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2

    @property
    def files(self) -> tuple[str, ...]:
        """What a new context is made from."""
        return tuple(path for path in (self.cert_file, self.key_file, self.client_ca_file) if path)

    def context(self) -> ssl.SSLContext:
        """A server's context.  Raises :class:`ConfigError` when the files do not hold what they should."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self.min_version
        # A client that wants to agree on new keys again and again makes us compute; a ticket would outlive the
        # authority that its owner's certificate came from.
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Asked for a passphrase, OpenSSL would wait at a terminal.
            context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.cert_file}, {self.key_file}: expected a PEM certificate and its key without a passphrase: "
                f"{_reason(error)}"
            ) from error
        if self.client_ca_file is not None:
            try:
                context.load_verify_locations(self.client_ca_file)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"{self.client_ca_file}: expected PEM certificates of client authorities: {_reason(error)}"
                ) from error
            context.verify_mode = self.client_auth
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """One file, read.  Empty: plain HTTP for everybody."""

    path: str | None = None
    tls: Tls | None = None
    users: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def authenticates(self) -> bool:
        """Whether a client must show who it is."""
        return bool(self.users) or (self.tls is not None and self.tls.client_auth is ssl.CERT_REQUIRED)


def read(path: str) -> WebConfig:
    """The configuration in the YAML file at ``path``.  Raises :class:`ConfigError`."""
    import yaml

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path}: expected at most {MAX_BYTES} bytes")
        content = yaml.safe_load(data)
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable web configuration: {error.strerror}") from error
    except Exception as error:
        # PyYAML lets through whatever its constructors meet in a value: IndexError, KeyError, AttributeError.
        if isinstance(error, ConfigError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: expected YAML, found something else{where}") from error
    return _parse(_File(path), content)


class _File:
    """Complains about values of one file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def wrong(self, key: str, value: object, expected: str) -> ConfigError:
        # A value of a few bytes can stand for gigabytes, by YAML's aliases: reprlib looks at its beginning only.
        found = reprlib.repr(value).encode("ascii", "backslashreplace").decode()[:80]
        return ConfigError(f"{self.path}: {key}: expected {expected}, found {found}")

    def mapping(self, key: str, value: object, known: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            # Not quoted: it may be the wrong file, of passwords.
            raise ConfigError(
                f"{self.path}: {key}: expected a mapping, found {_TYPES.get(type(value), 'something else')}"
            )
        for name in value:
            if name not in known:
                raise self.wrong(key, name, f"one of {', '.join(known)}")
        return value

    def users(self, value: object) -> dict[str, str]:
        """Nothing of it is ever quoted: it may be a password that somebody forgot to hash."""
        if not isinstance(value, dict):
            raise ConfigError(f"{self.path}: basic_auth_users: expected a mapping of names to bcrypt hashes")
        for user, hashed in value.items():
            if not isinstance(user, str):
                raise ConfigError(f"{self.path}: basic_auth_users: expected names that are texts, found another type")
            if not isinstance(hashed, str) or not _BCRYPT.fullmatch(hashed):
                raise ConfigError(f"{self.path}: basic_auth_users: {user[:80]!a}: expected a bcrypt hash ($2y$…)")
        return value

    def text(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise self.wrong(key, value, "a text")
        return value

    def one_of(self, key: str, value: object, choices: Mapping[str, Any]) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(key, value, f"one of {', '.join(choices)}")
        return choices[value]

    def file(self, key: str, value: object) -> str:
        """A path; relative to the folder of the configuration, as Prometheus has it."""
        if "\0" in self.text(key, value):
            raise self.wrong(key, value, "a path")
        return os.path.join(os.path.dirname(os.path.abspath(self.path)), self.text(key, value))


def _parse(file: _File, content: object) -> WebConfig:
    # Nothing is a mistake, or a file that is being written: it must not open what was closed.
    whole = file.mapping("web configuration", content, ("tls_server_config", "http_server_config", "basic_auth_users"))
    tls, users, http = (whole.get(key) for key in ("tls_server_config", "basic_auth_users", "http_server_config"))
    http = {} if http is None else file.mapping("http_server_config", http, ("headers", "http2"))
    # Go's server speaks HTTP/2 unless this is false; here it is 1.1 either way.
    if not isinstance(http.get("http2", False), bool):
        raise file.wrong("http2", http["http2"], "true or false")
    headers = http.get("headers")
    headers = {} if headers is None else file.mapping("headers", headers, HEADERS)
    for name, value in headers.items():
        text = file.text(name, value)
        if not text.isprintable() or not text.isascii() or text != text.strip():
            raise file.wrong(name, value, "one line of ASCII")
    return WebConfig(
        path=file.path,
        tls=None if tls is None else _tls(file, tls),
        users={} if users is None else file.users(users),
        headers=headers,
    )


def _tls(file: _File, content: object) -> Tls:
    keys = ("cert_file", "key_file", "client_ca_file", "client_auth_type", "client_allowed_sans", "min_version")
    tls = {key: value for key, value in file.mapping("tls_server_config", content, keys).items() if value is not None}
    authority = tls.get("client_ca_file")
    auth = file.one_of("client_auth_type", tls.get("client_auth_type", "NoClientCert"), _CLIENT_AUTH)
    if (auth is not ssl.CERT_NONE) != (authority is not None):
        raise file.wrong(
            "client_auth_type",
            tls.get("client_auth_type"),
            "a client_ca_file and a type that verifies, or neither: a certificate nobody checks proves nothing",
        )
    sans = tls.get("client_allowed_sans", [])
    if not isinstance(sans, list) or not all(isinstance(one, str) and one for one in sans):
        raise file.wrong("client_allowed_sans", sans, "a list of texts")
    if sans and auth is not ssl.CERT_REQUIRED:
        raise file.wrong("client_allowed_sans", sans, "client_auth_type RequireAndVerifyClientCert with it")
    return Tls(
        cert_file=file.file("cert_file", tls.get("cert_file")),
        key_file=file.file("key_file", tls.get("key_file")),
        client_ca_file=None if authority is None else file.file("client_ca_file", authority),
        client_auth=auth,
        client_allowed_sans=tuple(sans),
        min_version=file.one_of("min_version", tls.get("min_version", "TLS12"), _VERSIONS),
    )


class Rotating:
    """A configuration that is read again whenever it, or a file that it names, has changed.

    While the new one cannot be used (a certificate is written before its key) the old one stays in force.
    """

    def __init__(self, path: str | None) -> None:
        """Raises :class:`ConfigError` when the first one cannot be used."""
        self._path = path
        self._config = WebConfig()
        self._context: ssl.SSLContext | None = None
        self._stamps: dict[str, object] = {}
        if path is not None:
            self.reload()

    def reload(self) -> None:
        """Read it now.  Raises :class:`ConfigError`, and then the old one stays in force."""
        if self._path is None:
            return
        # Stamped before it is read: a change meanwhile is seen the next time.
        self._stamps = {self._path: _stamp(self._path)}
        config = read(self._path)
        files = config.tls.files if config.tls else ()
        self._stamps |= {path: _stamp(path) for path in files}
        self._context = config.tls.context() if config.tls else None
        self._config = config

    def refresh(self) -> None:
        """Read it if it has changed; what is wrong with it is logged once."""
        if all(_stamp(path) == stamp for path, stamp in self._stamps.items()):
            return
        try:
            self.reload()
            log.info("%s: read again, because it or a file that it names has changed", self._path)
        except ConfigError as error:
            log.error("%s; the configuration before it stays in force", error)

    def config(self) -> WebConfig:
        """The configuration for a request that comes now."""
        self.refresh()
        return self._config

    def context(self) -> ssl.SSLContext | None:
        """The context for a connection that comes now; ``None`` is plain HTTP."""
        self.refresh()
        return self._context

    def allowed(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a verified client certificate, as ``getpeercert`` gives it, has an allowed name."""
        tls = self._config.tls
        if tls is None or not tls.client_allowed_sans:
            return True
        return any(value in tls.client_allowed_sans for _, value in certificate.get("subjectAltName", ()))


def _stamp(path: str) -> object:
    """What changes when a file does; one that is not there has a stamp too."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        return getattr(error, "errno", "no path")
    return status.st_mtime_ns, status.st_ino, status.st_size


def exposure(config: WebConfig, outside: list[str]) -> list[str]:
    """What whoever started this should know about who can read it; ``outside`` are the addresses that others than this
    host can reach."""
    warnings = []
    if config.tls is None and config.users:
        warnings.append("passwords without encryption: without tls_server_config every one is sent in clear text")
    if config.tls is not None and not config.authenticates:
        warnings.append("encryption without authentication: TLS keeps answers private on the way, and anybody may ask")
    if outside and config.tls is None and not config.authenticates:
        warnings.append(
            f"OPEN TO THE NETWORK on {', '.join(outside)}: no encryption and no authentication; anybody who reaches it "
            "learns every container, image and weakness of this host. Listen on 127.0.0.1, or give --web.config.file"
        )
    return warnings


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
