"""Where the shipped site files and device profiles are, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

from reconf.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def shipped_folders() -> tuple[Path, ...]:
    """Folders that may hold shipped files: the checkout's, then the wheel's."""
    root = _PACKAGE.parent
    return (root / "site_configs", root / "edge" / "site_configs")


def find_site_file(name: str | Path) -> Path:
    """The file `name`: as given when it exists, else among the shipped ones (`demo`, `profiles/rm1.yaml`).

    Raises:
        ConfigError: there is no such file.
    """
    given = Path(name)
    if given.is_file():
        return given
    candidates = [given] if given.suffix else [given, given.with_suffix(".yaml")]
    for folder in shipped_folders():
        for candidate in candidates:
            if (folder / candidate).is_file():
                return folder / candidate
    shipped = sorted(p.stem for folder in shipped_folders() for p in folder.glob("*.yaml"))
    raise ConfigError(f"{name}: no such file; shipped site files are: {', '.join(shipped) or 'none'}")
