"""The site file: read strictly, every fault of it said at once, and made into a frozen `Site`."""

from __future__ import annotations

from reconf.config.findings import Finding, SiteFileError
from reconf.config.load import load_site, parse_site, site_schema

__all__ = ["Finding", "SiteFileError", "load_site", "parse_site", "site_schema"]
