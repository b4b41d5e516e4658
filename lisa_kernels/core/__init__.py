"""What every op is built on."""
