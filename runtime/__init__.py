"""When things happen: clocks, sockets, tasks, processes, the language model, the frame thread."""
