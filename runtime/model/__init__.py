"""The language model: what writes keyframe text, in a process of its own or on a server, and the adapter for it."""
