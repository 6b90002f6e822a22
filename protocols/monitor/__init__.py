"""What arrives from a sender, judged: which datagrams a strict receiver drops and why, and how its streams run."""
