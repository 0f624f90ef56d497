"""State directories of sites that have run, without running them: what a daemon would have stored."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge.store.store import Store
from reconf.estimation.filter import initial_state
from reconf.site import Site
from reconf.twin.observe import observe
from reconf.twin.plant import Plant
from reconf.twin.truth import draw_truth


def aged_state(site: Site, folder: Path, years: float, std_frac: float = 0.01, seed: int = 1) -> None:
    """Estimates of modules that have lost 3 % of their rating a year, each at its own pace."""
    rng = np.random.default_rng(seed)
    image = observe(Plant(site, draw_truth(site, rng, soc_frac=0.6)), rng, 0, 0.0)
    saved = initial_state(site, image).saved()
    sigma = np.sqrt(np.log1p(0.6**2))
    rows = {}
    for module in site.modules:
        row, n = saved[module.serial], module.n_cells
        lost = 0.03 * years * rng.lognormal(-0.5 * sigma**2, sigma)
        capacity = module.rated_capacity_ah * max(module.soh_frac - lost, 0.3)
        rows[module.serial] = replace(
            row, capacity_ah=(capacity,) * n, charge_ah=(0.6 * capacity,) * n,
            var_qq=((std_frac * capacity) ** 2,) * n, resistance_var=(0.005,) * n,
        ).to_json()  # fmt: skip
    with Store.open(folder) as store:
        store.history.save_estimates(rows, datetime.now(UTC))
