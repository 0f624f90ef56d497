"""The SunSpec server as a site file asks for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from edge.northbound.sunspec.devices import Devices
from edge.northbound.sunspec.points import SunSpecOptions
from edge.northbound.sunspec.security import ServerCertificates
from edge.northbound.sunspec.server import Submit, SunSpecServer
from reconf.site import Site


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
    certificates = ServerCertificates(spec, utc) if spec.cert_file else None
    return SunSpecServer(Devices(site), options, submit, wall, utc, certificates=certificates, beat=beat)
