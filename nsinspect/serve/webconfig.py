"""The web configuration file of Prometheus' exporters, and what it means for TLS and for who may ask.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md, of which these keys are known:
``tls_server_config`` (``cert_file``, ``key_file``, ``client_ca_file``, ``client_auth_type``, ``client_allowed_sans``,
``min_version``), ``http_server_config`` (``headers``, ``http2``) and ``basic_auth_users``.
"""

from __future__ import annotations

import logging
import os
import re
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
_BCRYPT = re.compile(r"\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}")
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
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: expected YAML, found something else{where}") from error
    return _parse(_File(path), {} if content is None else content)


class _File:
    """Complains about values of one file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def wrong(self, key: str, value: object, expected: str) -> ConfigError:
        return ConfigError(f"{self.path}: {key}: expected {expected}, found {ascii(value)[:80]}")

    def mapping(self, key: str, value: object, known: tuple[str, ...] | None = None) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise self.wrong(key, value, "a mapping")
        for name in value:
            if known is not None and name not in known:
                raise self.wrong(key, name, f"one of {', '.join(known)}")
        return value

    def text(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise self.wrong(key, value, "a text")
        return value

    def one_of(self, key: str, value: object, choices: Mapping[str, Any]) -> Any:
        if value not in choices:
            raise self.wrong(key, value, f"one of {', '.join(choices)}")
        return choices[str(value)]

    def file(self, key: str, value: object) -> str:
        """A path; relative to the folder of the configuration, as Prometheus has it."""
        return os.path.join(os.path.dirname(os.path.abspath(self.path)), self.text(key, value))


def _parse(file: _File, content: object) -> WebConfig:
    whole = file.mapping("web configuration", content, ("tls_server_config", "http_server_config", "basic_auth_users"))
    tls = whole.get("tls_server_config")
    users = file.mapping("basic_auth_users", whole.get("basic_auth_users") or {})
    for user, hashed in users.items():
        # The value may be a password that somebody forgot to hash, so it is not quoted.
        if not isinstance(hashed, str) or not _BCRYPT.fullmatch(hashed):
            raise ConfigError(f"{file.path}: basic_auth_users: {user!a}: expected a bcrypt hash ($2y$…)")
    http = file.mapping("http_server_config", whole.get("http_server_config") or {}, ("headers", "http2"))
    headers = file.mapping("headers", http.get("headers") or {}, HEADERS)
    for name, value in headers.items():
        if not file.text(name, value).isprintable() or not value.isascii():
            raise file.wrong(name, value, "one line of ASCII")
    return WebConfig(path=file.path, tls=None if not tls else _tls(file, tls), users=users, headers=headers)


def _tls(file: _File, content: object) -> Tls:
    keys = ("cert_file", "key_file", "client_ca_file", "client_auth_type", "client_allowed_sans", "min_version")
    tls = file.mapping("tls_server_config", content, keys)
    authority = tls.get("client_ca_file")
    auth = file.one_of("client_auth_type", tls.get("client_auth_type") or "NoClientCert", _CLIENT_AUTH)
    if (auth is not ssl.CERT_NONE) != bool(authority):
        raise file.wrong(
            "client_auth_type",
            tls.get("client_auth_type"),
            "a client_ca_file and a type that verifies, or neither: a certificate nobody checks proves nothing",
        )
    sans = tls.get("client_allowed_sans") or []
    if not isinstance(sans, list) or not all(isinstance(one, str) and one for one in sans):
        raise file.wrong("client_allowed_sans", sans, "a list of texts")
    if sans and auth is not ssl.CERT_REQUIRED:
        raise file.wrong("client_allowed_sans", sans, "client_auth_type RequireAndVerifyClientCert with it")
    return Tls(
        cert_file=file.file("cert_file", tls.get("cert_file")),
        key_file=file.file("key_file", tls.get("key_file")),
        client_ca_file=file.file("client_ca_file", authority) if authority else None,
        client_auth=auth,
        client_allowed_sans=tuple(sans),
        min_version=file.one_of("min_version", tls.get("min_version") or "TLS12", _VERSIONS),
    )


class Rotating:
    """A configuration that is read again whenever it, or a file that it names, has changed.

    While the new one cannot be used (a certificate is written before its key) the old one stays in force.
    """

    def __init__(self, path: str | None) -> None:
        """Raises :class:`ConfigError` when the first one cannot be used."""
        self._path = path
        self.config = WebConfig()
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
        self.config = config

    def refresh(self) -> None:
        """Read it if it has changed; what is wrong with it is logged once."""
        if all(_stamp(path) == stamp for path, stamp in self._stamps.items()):
            return
        try:
            self.reload()
            log.info("%s: read again, because it or a file that it names has changed", self._path)
        except ConfigError as error:
            log.error("%s; the configuration before it stays in force", error)

    def context(self) -> ssl.SSLContext | None:
        """The context for a connection that comes now; ``None`` is plain HTTP."""
        self.refresh()
        return self._context

    def allowed(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a verified client certificate, as ``getpeercert`` gives it, has an allowed name."""
        tls = self.config.tls
        if tls is None or not tls.client_allowed_sans:
            return True
        return any(value in tls.client_allowed_sans for _, value in certificate.get("subjectAltName", ()))


def _stamp(path: str) -> object:
    """What changes when a file does; one that is not there has a stamp too."""
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ino, status.st_size


def exposure(config: WebConfig, addresses: list[str], *, all_local: bool) -> list[str]:
    """What whoever started this should know about who can read it; empty when there is nothing to say."""
    warnings = []
    where = ", ".join(addresses)
    if config.tls is None and config.users:
        warnings.append("passwords without encryption: without tls_server_config every one is sent in clear text")
    if config.tls is not None and not config.authenticates:
        warnings.append("encryption without authentication: TLS keeps answers private on the way, and anybody may ask")
    if not all_local and config.tls is None and not config.authenticates:
        warnings.append(
            f"OPEN TO THE NETWORK on {where}: no encryption and no authentication; anybody who reaches it learns every "
            "container, image and weakness of this host. Listen on 127.0.0.1, or give --web.config.file"
        )
    return warnings


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
