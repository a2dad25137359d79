"""What a server shows of itself before anybody trusts it: for a person to judge, as ssh does with a host's key."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from xms.vsphere.faults import explain_connection
from xms.vsphere.trust import thumbprint_of


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
