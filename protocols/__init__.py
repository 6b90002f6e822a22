"""What things mean: channels, keyframe text, tracks, wire formats; no clock, socket, thread or log."""
