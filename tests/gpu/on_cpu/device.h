// What the libraries share: sizes, and the order in which a stream's work is done.
#pragma once
#include <functional>

// Bytes that a block may have: without being asked, and at most.
constexpr int SHARED_MEMORY = 49152, SHARED_MEMORY_OPTIN = 232448;

// Gives work to a stream: it is done when somebody waits for the stream, or written down as a node
// of the graph if the stream captures. Returns a cudaError_t.
int submit(void *stream, std::function<void()> work);
