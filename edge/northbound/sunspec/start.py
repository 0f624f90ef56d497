"""The SunSpec server as a site file asks for it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import datetime

from edge.northbound.sunspec.devices import Devices
from edge.northbound.sunspec.server import Submit, SunSpecOptions, SunSpecServer
from reconf.errors import ConfigError
from reconf.site import Site, SunSpecSpec


def sunspec_server(
    site: Site,
    submit: Submit | None,
    wall: Callable[[], float],
    utc: Callable[[], datetime],
    beat: Callable[[], None] = lambda: None,
) -> SunSpecServer | None:
    """The server, not yet listening; None where the site has none.

    Args:
        site: what is shown, and how the server is reached.
        submit: takes commands as bytes; None: read-only whatever the site file says.
        wall: monotonic wall clock [s].
        utc: the date.
        beat: told when the writer gives a sign of life.

    Raises:
        ConfigError: a certificate file cannot be used.
    """
    spec = site.sunspec
    if spec.port == 0:
        return None
    options = SunSpecOptions(host=spec.host, port=spec.port, writer=spec.writer, issuer=spec.issuer)
    return SunSpecServer(Devices(site), options, submit, wall, utc, tls=_tls(spec), beat=beat)


def _tls(spec: SunSpecSpec) -> ssl.SSLContext | None:
    """Mutual TLS 1.2 or better, as the Modbus/TCP Security Protocol Specification asks."""
    if not spec.cert_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(spec.cert_file, spec.key_file)
        context.load_verify_locations(spec.client_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"sunspec: the certificate files cannot be used: {error}") from error
    return context
