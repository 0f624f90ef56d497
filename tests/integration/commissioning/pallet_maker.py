"""A made-up pallet: a sheet and a capacity test of each module, some of them not fit for a second life."""

import csv

import numpy as np

N = 100
COLUMNS = [
    "serial", "chemistry", "n_cells", "n_parallel", "rated_capacity_ah", "origin", "manufactured", "damage",
    "isolation_mohm", "lowest_cell_v", "ocv_v", "ocv_later_v", "ocv_days",
]  # fmt: skip


def make_folder(folder, seed=1):
    rng = np.random.default_rng(seed)
    folder.mkdir()
    capacity = 60.0 * rng.normal(0.8, 0.09, N)
    with (folder / "modules.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for i in range(N):
            row = [f"EV-{i:04d}", "NMC", 12, 1, 60, "yard", "2015-05-01", "", 5, 3.1, 46.0, 45.99, 14]
            row[5] = "" if i == 3 else row[5]
            row[6] = "1999-01-01" if i == 5 else row[6]
            row[7] = "dented" if i == 7 else row[7]
            row[8] = 0.1 if i == 9 else row[8]
            writer.writerow(row)
    for i in range(N):
        lines = ["Test_Time(s),Current(A),Voltage(V)", "0,0,50.0", "10,0,50.0", "20,-20,49.0", "30,-20,48.9"]
        end_s = 20 + capacity[i] / 20.0 * 3600.0
        lines += [f"{t:.2f},-20,{48.9 - 12 * k / 40:.3f}" for k, t in enumerate(np.linspace(40, end_s, 40))]
        (folder / f"EV-{i:04d}_capacity.csv").write_text("\n".join(lines) + "\n")
    return capacity
