"""What a container is really allowed to do, and what really limits it, answered from kernel files alone."""

__version__ = "0.1.0"
