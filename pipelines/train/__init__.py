"""From a table and a contract to a bundle."""
