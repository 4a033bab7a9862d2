"""The HDF5 file: tables, blobs, scales, the background thread, what HDF5 says when it fails."""
