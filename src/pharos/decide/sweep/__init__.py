"""Sweeps: any grid of hyperparameters, workloads, machines and runtimes, evaluated as arrays into Parquet."""

from pharos.decide.sweep.run import Swept as Swept
from pharos.decide.sweep.run import sweep as sweep
