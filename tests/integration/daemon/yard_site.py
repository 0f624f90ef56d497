"""A site file of two small strings, for daemons that need one on disk."""

import json

SOH = {"A": (0.90, 0.62, 0.89, 0.66), "B": (0.64, 0.91, 0.65, 0.88)}


def site_text(public_key: str) -> str:
    """Two strings of four four-cell modules, unequal on purpose; an engineer may order work."""
    lines = [
        "site: yard  # comments stay", "gateways:",
        "  - {name: line-a, kind: tcp, host: 127.0.0.1, port: 1502, timeout_s: 0.5}",
        "  - {name: line-b, kind: tcp, host: 127.0.0.1, port: 1503, timeout_s: 0.5}",
        "bus: {master: pcs, nominal_v: 400.0, min_v: 360.0, max_v: 440.0}",
        "timing: {tick_s: 0.3, slot_s: 0.6, interval_s: 3.0}",
        "module_types:", "  four:", "    {chemistry: NMC, cell_model: nmc_generic, n_cells: 4,",
        "     rated_capacity_ah: 60.0, soh_std_frac: 0.01, resistance_scale: 1.2}", "mqtt:", "  issuers:",
        f"    - {{name: ana, role: engineer, public_key: {json.dumps(public_key)}}}", "strings:",
    ]  # fmt: skip
    for name, row in SOH.items():
        gateway = f"line-{name.lower()}"
        lines += [
            f"  - name: {name}", "    converter:", f"      gateway: {gateway}", "      unit_id: 201",
            "      power_rating_w: 4000.0", "      current_rating_a: 60.0", "      voltage_min_v: 36.0",
            "      voltage_max_v: 70.0", "    positions:",
        ]  # fmt: skip
        lines += [
            f"      - {{label: {name}{k}, gateway: {gateway}, unit_id: {k}, serial: M-{name}{k}, "
            f"module_type: four, soh_frac: {soh}}}  # rack {k}"
            for k, soh in enumerate(row, 1)
        ]
    return "\n".join(lines) + "\n"
