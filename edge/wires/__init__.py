"""On the wires of a site that is not running: scan, dump, identify, commission."""
