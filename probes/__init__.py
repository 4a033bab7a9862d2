"""Op accuracy and the arithmetic of a device.  The probes themselves are not written yet."""
