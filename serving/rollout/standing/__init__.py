"""The gate as it stands in a cluster: it waits for a canary that its plan names, and leads it."""
