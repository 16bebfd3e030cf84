"""Data with sources: machines, models, energies, links; how names are found and files read."""
