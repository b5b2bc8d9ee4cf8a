"""Draws beside data: tests of two samples, distances, and nearest neighbours."""
