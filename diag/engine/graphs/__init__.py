"""TensorFlow graphs as plain records: read, search, cut, edit, interpret; the one door to private TensorFlow."""
