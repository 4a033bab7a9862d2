"""The HDF5 trace: schema, writer, reader.  No TensorFlow here."""
