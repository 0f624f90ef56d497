"""Sparkplug B 3.0 edge node: the site as node, its strings as devices."""
