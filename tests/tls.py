# SPDX-License-Identifier: MIT
"""A certificate of localhost, 127.0.0.1 and ::1, which signs itself. Its key is no secret."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from .support import Missing

if TYPE_CHECKING:
    import ssl

_PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfkqHtpbGYIadlUgZ
kVZQWDsWjhi/NJGuakVUek4MsH2hRANCAATmuLBcrhhgQQo0DiY+E5jalu+Mv5PP
m4wLa0lHirkhFwT28uohLLDDF9x340AKrcTBWPSxfZbsHA2oh0r4sbA6
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBijCCAS+gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOa4sFyuGGBBCjQO
Jj4TmNqW74y/k8+bjAtrSUeKuSEXBPby6iEssMMX3HfjQAqtxMFY9LF9luwcDaiH
SvixsDqjcDBuMCwGA1UdEQQlMCOCCWxvY2FsaG9zdIcEfwAAAYcQAAAAAAAAAAAA
AAAAAAAAATAOBgNVHQ8BAf8EBAMCAoQwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4E
FgQUwc2Pe6/Mro2AiX5e6ahwSO7BDfgwCgYIKoZIzj0EAwIDSQAwRgIhAPGU0Tdy
1CxmFf+Yn4+xMRYyyUCTyH2uKbajDgnbrsyhAiEA0Wm46T3lsBzy8OKdqHlVRWyI
DPJvaStKHK98RV6xS8k=
-----END CERTIFICATE-----
"""


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server that has the certificate, and of a client that trusts it."""
    try:
        import ssl
    except ImportError as error:  # a Python without OpenSSL is as good for all else
        raise Missing(f"ssl of this Python ({error})") from None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w") as file:  # ssl reads a key from files only
        file.write(_PEM)
        file.flush()
        server.load_cert_chain(file.name)
    return server, ssl.create_default_context(cadata=_PEM[_PEM.index("-----BEGIN C") :])
