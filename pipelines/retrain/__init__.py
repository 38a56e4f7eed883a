"""From a drift event, or a schedule, to a canary of a model trained on the newest rows."""
