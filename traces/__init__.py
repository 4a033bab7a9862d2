"""The HDF5 trace: schema, writer, reader.  No TensorFlow here."""

import diag as diag  # first of all: from here on Ctrl-C ends python -m traces in one line
