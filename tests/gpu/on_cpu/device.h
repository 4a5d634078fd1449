// The order in which a stream's work is done.
#pragma once
#include <functional>

// Gives work to a stream: it is done when somebody waits for the stream, or written down as a node
// of the graph if the stream captures. Returns a cudaError_t.
int submit(void *stream, std::function<void()> work);
