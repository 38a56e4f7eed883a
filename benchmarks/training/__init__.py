"""How fast training and ingestion are, and what the served models reach on the real tables."""
