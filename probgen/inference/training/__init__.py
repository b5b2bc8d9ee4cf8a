"""Training by `fit`: tasks, their data, the loop on the device, and what it returns."""
