"""What the components' tests share, and tests of what the components share."""
