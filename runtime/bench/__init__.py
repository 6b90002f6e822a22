"""`kff-live bench`: measures this machine, each figure beside a reference from the same run."""
