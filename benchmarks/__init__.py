"""Measured speeds. Nothing here is asserted in a test."""
