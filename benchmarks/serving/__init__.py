"""Server CPU per request: this predictor, KServe's own server, and the least that Python needs."""
