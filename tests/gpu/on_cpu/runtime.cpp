// CUDA's runtime where there is no GPU: memory, streams, events and graphs of the CPU.
//
// It is stricter than a GPU. A stream's work is left undone until somebody waits for it, so that a
// wait that is missing shows; memory comes filled with 0xFF, which is NaN, ends before a page that
// nobody may touch, and is gone when it is freed; whatever CUDA refuses while a stream captures is
// refused, and makes the capture invalid.

#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "device.h"

namespace {

using Work = std::function<void()>;
using Graph = std::vector<Work>;

struct Stream {
    bool blocking = true;  // whether it and the legacy stream wait for each other
    std::deque<Work> queue;
    size_t submitted = 0, done = 0;
    std::unique_ptr<Graph> capture;
    bool invalid = false;  // the capture
};

struct Event {
    Stream *stream = nullptr;  // of its last record, as are the others
    size_t position = 0;
    bool captured = false;
};

struct Memory {
    size_t size;
    bool on_host;
    void *area;  // of whole pages, in which it lies
    size_t area_size;
};

constexpr int PROCESSORS = 132, MAJOR = 9, MINOR = 0;
constexpr size_t CAPACITY = size_t{8} << 30;
constexpr size_t ALIGNMENT = 512, PAGE = 4096;

std::recursive_mutex mutex;
Stream legacy;
std::vector<Stream *> streams = {&legacy};
std::map<const char *, Memory> memories;
size_t used = 0;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t failed(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

// Runs an interface function's body, one at a time.
template <typename Body>
cudaError_t guarded(Body body) {
    std::lock_guard lock(mutex);
    return failed(body());
}

Stream &at(void *stream) {
    return stream && stream != cudaStreamLegacy ? *static_cast<Stream *>(stream) : legacy;
}

void finish(Stream &stream, size_t position) {
    while (stream.done < position) {
        Work work = std::move(stream.queue.front());
        stream.queue.pop_front();
        work();
        ++stream.done;
    }
}

void finish(Stream &stream) { finish(stream, stream.submitted); }

cudaError_t invalidate(Stream &stream, cudaError_t error) {
    stream.invalid = true;
    return error;
}

// What the legacy stream does comes after all that the blocking streams were given.
cudaError_t finish_blocking() {
    for (Stream *stream : streams) {
        if (!stream->blocking) continue;
        if (stream->capture) return invalidate(*stream, cudaErrorStreamCaptureImplicit);
        finish(*stream);
    }
    return cudaSuccess;
}

void describe(cudaDeviceProp &properties) {
    std::strcpy(properties.name, "the CPU in the place of a GPU");
    properties.totalGlobalMem = CAPACITY;
    properties.sharedMemPerBlock = SHARED_MEMORY;
    properties.warpSize = 32;
    properties.maxThreadsPerBlock = 1024;
    properties.multiProcessorCount = PROCESSORS;
    properties.major = MAJOR;
    properties.minor = MINOR;
}

cudaError_t finish_all() {
    for (Stream *stream : streams) {
        if (stream->capture) return invalidate(*stream, cudaErrorStreamCaptureUnsupported);
        finish(*stream);
    }
    return cudaSuccess;
}

cudaError_t put(Stream &stream, Work work) {
    if (stream.capture) {
        if (stream.invalid) return cudaErrorStreamCaptureInvalidated;
        stream.capture->push_back(std::move(work));
        return cudaSuccess;
    }
    if (&stream == &legacy) {
        if (cudaError_t error = finish_blocking()) return error;
    } else if (stream.blocking) {
        finish(legacy);
    }
    stream.queue.push_back(std::move(work));
    ++stream.submitted;
    return cudaSuccess;
}

const Memory *memory_of(const void *pointer) {
    auto after = memories.upper_bound(static_cast<const char *>(pointer));
    if (after == memories.begin()) return nullptr;
    auto &[begin, memory] = *std::prev(after);
    return static_cast<const char *>(pointer) < begin + memory.size ? &memory : nullptr;
}

bool on_device(const void *pointer) {
    const Memory *memory = memory_of(pointer);
    return memory && !memory->on_host;
}

cudaError_t copy(
    void *to, const void *from, size_t size, cudaMemcpyKind kind, Stream &stream, bool wait) {
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    if (kind != cudaMemcpyDefault && size)
        if (from_device != on_device(from) || to_device != on_device(to))
            return cudaErrorInvalidValue;
    Work work = [=] { std::memmove(to, from, size); };
    if (!memory_of(from) && !stream.capture) {
        // Ordinary memory of the host is read before the call returns, and locked memory later.
        auto text = std::make_shared<std::string>(static_cast<const char *>(from), size);
        work = [=] { std::memcpy(to, text->data(), size); };
    }
    cudaError_t error = put(stream, work);
    if (!error && !stream.capture && (wait || !memory_of(to))) finish(stream);
    return error;
}

cudaError_t allocate(void **pointer, size_t size, bool on_host) {
    *pointer = nullptr;
    if (!size) return cudaSuccess;
    if (!on_host && used + size > CAPACITY) return cudaErrorMemoryAllocation;
    // Behind its end comes a page that nobody may touch.
    size_t length = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t pages = (length + PAGE - 1) / PAGE * PAGE;
    void *area = mmap(
        nullptr, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) return cudaErrorMemoryAllocation;
    mprotect(static_cast<char *>(area) + pages, PAGE, PROT_NONE);
    char *begin = static_cast<char *>(area) + pages - length;
    std::memset(begin, 0xFF, length);
    memories[begin] = {size, on_host, area, pages + PAGE};
    used += on_host ? 0 : size;
    *pointer = begin;
    return cudaSuccess;
}

cudaError_t release(void *pointer, bool on_host) {
    if (!pointer) return cudaSuccess;
    auto found = memories.find(static_cast<char *>(pointer));
    if (found == memories.end() || found->second.on_host != on_host) return cudaErrorInvalidValue;
    for (Stream *stream : streams) finish(*stream);
    used -= on_host ? 0 : found->second.size;
    munmap(found->second.area, found->second.area_size);
    memories.erase(found);
    return cudaSuccess;
}

}  // namespace

int submit(void *stream, Work work) {
    return guarded([&] { return put(at(stream), std::move(work)); });
}

extern "C" {

// ---------------------------------------------------------------------------------------- Device

cudaError_t cudaDriverGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
    return device ? failed(cudaErrorInvalidDevice) : cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int *answer, int, int) { return *answer = 0, cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return guarded(finish_all); }

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
    static const std::map<int, int> values = {
        {cudaDevAttrMaxThreadsPerBlock, 1024}, {cudaDevAttrMaxBlockDimX, 1024},
        {cudaDevAttrMaxBlockDimY, 1024}, {cudaDevAttrMaxBlockDimZ, 64},
        {cudaDevAttrMaxGridDimX, 2147483647}, {cudaDevAttrMaxGridDimY, 65535},
        {cudaDevAttrMaxGridDimZ, 65535}, {cudaDevAttrMaxSharedMemoryPerBlock, SHARED_MEMORY},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, SHARED_MEMORY_OPTIN},
        {cudaDevAttrWarpSize, 32}, {cudaDevAttrMultiProcessorCount, PROCESSORS},
        {cudaDevAttrMaxThreadsPerMultiProcessor, 2048}, {cudaDevAttrUnifiedAddressing, 1},
        {cudaDevAttrComputeCapabilityMajor, MAJOR}, {cudaDevAttrComputeCapabilityMinor, MINOR},
    };
    auto found = values.find(attribute);
    *value = found == values.end() ? 0 : found->second;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    if (device) return failed(cudaErrorInvalidDevice);
    *properties = {};
    describe(*properties);
    return cudaSuccess;
}

#ifdef cudaGetDeviceProperties  // CUDA 12 has a newer one of another name, whose structure is longer
#undef cudaGetDeviceProperties
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    return device ? failed(cudaErrorInvalidDevice) : (describe(*properties), cudaSuccess);
}
#endif

// ---------------------------------------------------------------------------------------- Errors

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

const char *cudaGetErrorName(cudaError_t error) {
    static const std::map<int, const char *> names = {
        {cudaSuccess, "cudaSuccess"},
        {cudaErrorInvalidValue, "cudaErrorInvalidValue"},
        {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation"},
        {cudaErrorInvalidDevice, "cudaErrorInvalidDevice"},
        {cudaErrorIllegalState, "cudaErrorIllegalState"},
        {cudaErrorCapturedEvent, "cudaErrorCapturedEvent"},
        {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported"},
        {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated"},
        {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit"},
        {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation"},
    };
    auto found = names.find(error);
    return found == names.end() ? "an error of the CPU in the place of a GPU" : found->second;
}

const char *cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

// ---------------------------------------------------------------------------------------- Memory

cudaError_t cudaMalloc(void **pointer, size_t size) {
    return guarded([&] { return allocate(pointer, size, false); });
}

cudaError_t cudaFree(void *pointer) {
    return guarded([&] { return release(pointer, false); });
}

cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned) {
    return guarded([&] { return allocate(pointer, size, true); });
}

cudaError_t cudaFreeHost(void *pointer) {
    return guarded([&] { return release(pointer, true); });
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    return guarded([&] { return *total = CAPACITY, *free = CAPACITY - used, cudaSuccess; });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
    return guarded([&] {
        const Memory *memory = memory_of(pointer);
        *attributes = {};
        attributes->type = !memory           ? cudaMemoryTypeUnregistered
                           : memory->on_host ? cudaMemoryTypeHost
                                             : cudaMemoryTypeDevice;
        attributes->devicePointer = attributes->hostPointer = const_cast<void *>(pointer);
        return cudaSuccess;
    });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
    bool wait = kind != cudaMemcpyDeviceToDevice;
    return guarded([&] { return copy(to, from, size, kind, legacy, wait); });
}

cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
    return guarded([&] { return copy(to, from, size, kind, at(stream), false); });
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream) {
    return guarded([&] {
        if (size && !on_device(to)) return cudaErrorInvalidValue;
        return put(at(stream), [=] { std::memset(to, value, size); });
    });
}

cudaError_t cudaMemset(void *to, int value, size_t size) {
    return cudaMemsetAsync(to, value, size, nullptr);
}

// --------------------------------------------------------------------------- Streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *made, unsigned flags) {
    return guarded([&] {
        auto stream = new Stream;
        stream->blocking = !(flags & cudaStreamNonBlocking);
        streams.push_back(stream);
        *made = reinterpret_cast<cudaStream_t>(stream);
        return cudaSuccess;
    });
}

cudaError_t cudaStreamCreate(cudaStream_t *made) {
    return cudaStreamCreateWithFlags(made, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *made, unsigned flags, int) {
    return cudaStreamCreateWithFlags(made, flags);
}

// A destroyed stream stays in the list: events may name it.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    return guarded([&] { return finish(at(stream)), cudaSuccess; });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return guarded([&] {
        if (at(stream).capture)
            return invalidate(at(stream), cudaErrorStreamCaptureUnsupported);
        if (&at(stream) == &legacy) return finish_blocking();
        return finish(at(stream)), cudaSuccess;
    });
}

cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    return guarded([&] {
        Event seen = *reinterpret_cast<Event *>(event);
        if (!seen.stream || seen.stream == &at(stream)) return cudaSuccess;
        if (seen.captured || at(stream).capture) return cudaErrorStreamCaptureIsolation;
        return put(at(stream), [=] { finish(*seen.stream, seen.position); });
    });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *made, unsigned) {
    *made = reinterpret_cast<cudaEvent_t>(new Event);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *made) { return cudaEventCreateWithFlags(made, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete reinterpret_cast<Event *>(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return guarded([&] {
        bool captured = at(stream).capture != nullptr;
        *reinterpret_cast<Event *>(event) = {&at(stream), at(stream).submitted, captured};
        return cudaSuccess;
    });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return guarded([&] {
        Event seen = *reinterpret_cast<Event *>(event);
        if (seen.captured) return invalidate(*seen.stream, cudaErrorCapturedEvent);
        if (seen.stream) finish(*seen.stream, seen.position);
        return cudaSuccess;
    });
}

cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }

// There are no times: nothing is measured here.
cudaError_t cudaEventElapsedTime(float *, cudaEvent_t, cudaEvent_t) {
    return failed(cudaErrorNotSupported);
}

// ---------------------------------------------------------------------------------------- Graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    return guarded([&] {
        if (&at(stream) == &legacy) return cudaErrorStreamCaptureUnsupported;
        if (at(stream).capture) return cudaErrorIllegalState;
        at(stream).capture = std::make_unique<Graph>();
        at(stream).invalid = false;
        return cudaSuccess;
    });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    return guarded([&] {
        *graph = nullptr;
        auto captured = std::move(at(stream).capture);
        if (!captured) return cudaErrorIllegalState;
        if (at(stream).invalid) return cudaErrorStreamCaptureInvalidated;
        *graph = reinterpret_cast<cudaGraph_t>(captured.release());
        return cudaSuccess;
    });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    return guarded([&] {
        Stream &asked = at(stream);
        *status = !asked.capture  ? cudaStreamCaptureStatusNone
                  : asked.invalid ? cudaStreamCaptureStatusInvalidated
                                  : cudaStreamCaptureStatusActive;
        for (Stream *other : streams)
            if (&asked == &legacy && other->blocking && other->capture)
                return invalidate(*other, cudaErrorStreamCaptureImplicit);
        return cudaSuccess;
    });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long) {
    *made = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph *>(graph)));
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    return guarded([&] {
        return put(at(stream), [=] {
            for (Work &work : *reinterpret_cast<Graph *>(graph)) work();
        });
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete reinterpret_cast<Graph *>(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    return guarded([&] {
        for (Stream *stream : streams) finish(*stream);
        delete reinterpret_cast<Graph *>(graph);
        return cudaSuccess;
    });
}

}  // extern "C"
