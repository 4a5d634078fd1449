// CUDA's driver where there is no GPU: modules are shared libraries, made by compiler.cpp.

#include <cuda.h>
#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "device.h"

namespace {

struct Function {
    void (*launch)(const unsigned *grid, const unsigned *block, void **arguments);
    const size_t *sizes;  // of its arguments, and a zero
    std::string name;
    int shared = SHARED_MEMORY;  // the most that a launch may ask for, in bytes
};

// With CUDA_ON_CPU_TRACE=1 every launch is a line on stderr.
const bool TRACE = std::getenv("CUDA_ON_CPU_TRACE") != nullptr;
char context;

}  // namespace

extern "C" {

CUresult cuGetErrorName(CUresult error, const char **name) {
    *name = error == CUDA_ERROR_INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE"
            : error == CUDA_ERROR_NOT_FOUND   ? "CUDA_ERROR_NOT_FOUND"
                                              : "an error of the CPU in the place of a GPU";
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }

CUresult cuCtxGetCurrent(CUcontext *current) {
    *current = reinterpret_cast<CUcontext>(&context);
    return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    auto header = static_cast<const Elf64_Ehdr *>(image);
    if (std::memcmp(header->e_ident, ELFMAG, SELFMAG)) return CUDA_ERROR_INVALID_IMAGE;
    size_t size = header->e_shoff + size_t{header->e_shnum} * header->e_shentsize;
    char path[] = "/tmp/module-XXXXXX";
    int file = mkstemp(path);
    bool written = write(file, image, size) == static_cast<ssize_t>(size);
    close(file);
    void *library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(path);
    *module = static_cast<CUmodule>(library);
    return library ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

// Libraries stay: arguments of a captured launch may still name what they hold.
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    void *launch = dlsym(module, ("launch_" + std::string(name)).c_str());
    void *sizes = dlsym(module, ("sizes_" + std::string(name)).c_str());
    if (!launch || !sizes) return CUDA_ERROR_NOT_FOUND;
    auto made = new Function{
        reinterpret_cast<decltype(Function::launch)>(launch), *static_cast<const size_t **>(sizes), name};
    *function = reinterpret_cast<CUfunction>(made);
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction handle) {
    auto function = reinterpret_cast<Function *>(handle);
    *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK              ? 1024
             : attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? function->shared
                                                                             : 0;
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > SHARED_MEMORY_OPTIN)
        return CUDA_ERROR_INVALID_VALUE;
    reinterpret_cast<Function *>(handle)->shared = value;
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(
    CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
    unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void **parameters, void **) {
    auto function = reinterpret_cast<Function *>(handle);
    size_t threads = size_t{block_x} * block_y * block_z;
    bool some = grid_x && grid_y && grid_z && threads;
    if (!some || grid_x > 2147483647 || grid_y > 65535 || grid_z > 65535 || threads > 1024 ||
        block_z > 64 || shared > static_cast<unsigned>(function->shared))
        return CUDA_ERROR_INVALID_VALUE;
    if (TRACE) std::fprintf(stderr, "launch %s\n", function->name.c_str());
    // The caller's arguments may be gone when the kernel runs.
    auto bytes = std::make_shared<std::vector<std::string>>();
    for (size_t i = 0; function->sizes[i]; ++i)
        bytes->emplace_back(static_cast<const char *>(parameters[i]), function->sizes[i]);
    int error = submit(stream, [=] {
        unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
        std::vector<void *> arguments;
        for (std::string &argument : *bytes) arguments.push_back(argument.data());
        function->launch(grid, block, arguments.data());
    });
    return static_cast<CUresult>(error);
}

}  // extern "C"
