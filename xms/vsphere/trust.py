"""Which certificate of a source is believed: a pinned one, one of a CA bundle, or one of the system's CAs.

pyVmomi's own pinning is not used: with its certificate check off, a wrong thumbprint connects silently, and with it
on, a right thumbprint on a self-signed server is refused. It also never verifies loopback names unless it is given a
context. So a context is always given, and the pin is enforced by trusting nothing but the pinned certificate itself.
"""

from __future__ import annotations

import hashlib
import socket
import ssl

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
