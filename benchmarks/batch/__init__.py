"""How many rows a minute batch_score answers on one core, and how much memory it needs."""
