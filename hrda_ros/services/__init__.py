"""The node's services, and what they do."""
