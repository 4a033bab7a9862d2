"""A probe, its measurements, the report of a device, and the device under test."""
