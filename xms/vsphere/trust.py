"""Which certificate of a source is believed: a pinned one, one of a CA bundle, or one of the system's CAs.

pyVmomi's own pinning is not used: with its certificate check off, a wrong thumbprint connects silently, and with it
on, a right thumbprint on a self-signed server is refused. It also never verifies loopback names unless it is given a
context. So a context is always given, and the pin is enforced by trusting nothing but the pinned certificate itself.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from xms.config import SourceConfig
from xms.errors import ConfigurationError, SourceNotTrusted
from xms.vsphere.faults import explain_connection


def ssl_context(name: str, config: SourceConfig) -> ssl.SSLContext:
    """The TLS context of every connection to the source.

    With a thumbprint the server's certificate is fetched first, compared, and then the only one that the context
    accepts; a server that shows another one later is refused by the handshake, before anything is sent to it.

    Raises:
        SourceNotTrusted: the server's certificate is not the pinned one.
        SourceUnreachable: it could not be fetched.
        ConfigurationError: the CA bundle cannot be read.
    """
    if config.thumbprint is not None:
        return _pinned_context(name, config, config.thumbprint)
    try:
        return ssl.create_default_context(cafile=None if config.ca_file is None else str(config.ca_file))
    except OSError as error:
        raise ConfigurationError(
            f"the CA bundle {config.ca_file} of {name} cannot be used", because=str(error)
        ) from None


def thumbprint_of(certificate: bytes) -> str:
    """The SHA-256 thumbprint of a DER certificate, as vSphere writes it: "AA:BB:..."."""
    return hashlib.sha256(certificate).digest().hex(":").upper()


def verified_certificate(name: str, config: SourceConfig) -> bytes:
    """The source's certificate in DER, after it was verified as configured; for tools that can only pin.

    Raises:
        SourceNotTrusted: the certificate does not verify.
        SourceUnreachable: the server did not answer.
        ConfigurationError: the CA bundle cannot be read.
    """
    context = ssl_context(name, config)
    try:
        with (
            socket.create_connection((config.host, config.port), timeout=config.timeout_seconds) as plain,
            context.wrap_socket(plain, server_hostname=config.host) as secured,
        ):
            certificate = secured.getpeercert(binary_form=True)
    except OSError as error:
        raise explain_connection(error, source=name, host=config.host, port=config.port) from error
    if certificate is None:
        raise SourceNotTrusted(f"{name} ({config.host}:{config.port}) showed no certificate")
    return certificate


def _pinned_context(name: str, config: SourceConfig, pin: str) -> ssl.SSLContext:
    try:
        shown = ssl.get_server_certificate((config.host, config.port), timeout=config.timeout_seconds)
    except (OSError, ValueError) as error:
        raise explain_connection(error, source=name, host=config.host, port=config.port) from error
    found = thumbprint_of(ssl.PEM_cert_to_DER_cert(shown))
    if found != pin.upper():
        raise SourceNotTrusted(
            f"{name} ({config.host}:{config.port}) is not trusted",
            because=f"its certificate's thumbprint is {found}, configured is {pin.upper()}",
            means="nothing was sent to it",
            do="if the certificate was renewed, check it with its owner and configure the new thumbprint",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The pin says which certificate it is; the name in it adds nothing, and is often that of another machine.
    context.check_hostname = False
    context.load_verify_locations(cadata=shown)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


@dataclass(frozen=True)
class ShownCertificate:
    """What a server shows of itself, before anybody has said that it is trusted.

    Attributes:
        subject, issuer: names as RFC 4514 writes them.
        names: for which it was issued.
        thumbprint: SHA-256, "AA:BB:..".
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    valid_from: datetime
    valid_until: datetime
    thumbprint: str


def shown_certificate(host: str, port: int, *, timeout_seconds: float) -> ShownCertificate:
    """Fetch a server's certificate, for a person to judge; nothing else is sent to it.

    Raises:
        SourceUnreachable: it could not be fetched.
    """
    try:
        der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, port), timeout=timeout_seconds))
        certificate = x509.load_der_x509_certificate(der)
    except (OSError, ValueError) as error:
        raise explain_connection(error, source="the source", host=host, port=port) from error
    return ShownCertificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=_names(certificate),
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        thumbprint=thumbprint_of(der),
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))
