"""The same probes on every device of a host or a cluster: which one differs from its siblings?"""
