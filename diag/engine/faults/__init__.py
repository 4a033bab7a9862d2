"""Simulated devices: faults planted in ops or in graphs."""
