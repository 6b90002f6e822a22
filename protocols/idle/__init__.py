"""Idle life: blinks, glances, breath and small motion of a face at rest."""
