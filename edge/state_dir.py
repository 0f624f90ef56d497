"""Where a site's state is kept when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from reconf.errors import StoreError

SERVICE = Path("/var/lib/reconf")
"""State directory of the systemd unit."""


def state_folder(site: str, given: Path | None = None) -> Path:
    """`given`, or the site's folder in the user's state directory."""
    if given is not None:
        return given
    from platformdirs import user_state_path

    return user_state_path("reconf") / site


def daemon_folder(site: str, given: Path | None, holds: str) -> Path:
    """State directory of the daemon that runs a site.

    Args:
        site: its name; empty where it is not known: only the service's directory is looked into then.
        given: taken as it is.
        holds: name of the file that shows that a directory is the one; the user's own is asked first.

    Raises:
        StoreError: no directory has such a file.
    """
    if given is not None:
        return given
    places = [state_folder(site), SERVICE] if site else [SERVICE]
    # os.path: a folder that may not be entered is one without the file, not an error
    found = next((p for p in places if os.path.exists(p / holds)), None)  # noqa: PTH110 - see above
    if found is not None:
        return found
    shut = SERVICE.is_dir() and not os.access(SERVICE, os.X_OK)
    told = " (which only root may look into: try sudo)" if shut else ""
    raise StoreError(f"no {holds} in {' nor in '.join(map(str, places))}{told}; name it by --state-dir")
