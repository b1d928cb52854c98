"""Vector detectors: rows of tables, and embeddings of anything."""
