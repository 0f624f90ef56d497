"""Where a site's state is kept when nobody says otherwise."""

from __future__ import annotations

from pathlib import Path


def state_folder(site: str, given: Path | None = None) -> Path:
    """`given`, or the site's folder in the user's state directory."""
    if given is not None:
        return given
    from platformdirs import user_state_path

    return user_state_path("reconf") / site
