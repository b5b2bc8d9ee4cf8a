"""Draws of approximate posteriors: their importance weights, and what ArviZ takes of them."""
