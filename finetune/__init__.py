"""How the model learns to write keyframe text; empty until the training issue lands."""
