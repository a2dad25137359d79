"""The target: cloud client, lease, claim."""
