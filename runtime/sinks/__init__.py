"""Sinks: where frames leave, one module for each way in which a receiver is spoken to."""
