"""Quantity: sizes in three readings, units, element types, evidence, errors."""
