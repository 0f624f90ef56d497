"""The on-site door: a local socket for what may be done only by somebody who stands at the site."""
