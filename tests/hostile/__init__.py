"""Files of a stranger: a corpus of hostile traces, and a fuzzer."""
