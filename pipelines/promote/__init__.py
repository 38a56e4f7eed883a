"""From a bundle to an answer: promoted, rolled back or held."""
