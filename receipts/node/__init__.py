"""The server: a pure hub and its handlers, a pure pipeline, and the runner that gives them a world."""
