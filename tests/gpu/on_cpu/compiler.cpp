// NVRTC where there is no GPU: g++ makes a shared library of each program.

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

#include "device.h"

namespace {

constexpr int SUCCESS = 0, COMPILATION = 6, NAME_EXPRESSION_NOT_VALID = 10;
constexpr int ARCHITECTURES[] = {75, 80, 90, 100};
const std::string KERNEL = "__global__\\s+(?:__launch_bounds__\\([^)]*\\)\\s*)?void\\s+(\\w+)\\s*\\(";

struct Program {
    std::string source, library, log;
    std::vector<std::pair<std::string, std::string>> headers = {};  // name and text
    std::vector<std::string> expressions = {};                      // that name kernels
};

Program &at(void *program) { return *static_cast<Program *>(program); }

std::string quoted(const std::string &word) {
    return "'" + std::regex_replace(word, std::regex("'"), "'\\''") + "'";
}

std::string read(const std::filesystem::path &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// The source, after what it is compiled with and before a launcher for each of its kernels.
std::string complete(const Program &program) {
    bool barriers = std::regex_search(program.source, std::regex("__sync|__shfl|_BLOCK_SIZE"));
    std::string text = "#define BARRIERS " + std::to_string(barriers) + "\n#include \"kernel.h\"\n";
    // Shared memory whose size comes with the launch gets the most that there is.
    std::regex shared("extern\\s+__shared__\\s+(\\w+)\\s+(\\w+)\\s*\\[\\s*\\]");
    text += std::regex_replace(program.source, shared, "static $1 $2[" + std::to_string(SHARED_MEMORY_OPTIN) + " / sizeof($1)]") + "\n";
    for (size_t i = 0; i < program.expressions.size(); ++i)
        text += "LAUNCHER(expression_" + std::to_string(i) + ", (" + program.expressions[i] + "))\n";
    if (!program.expressions.empty()) return text;
    std::regex kernel(KERNEL);
    std::sregex_iterator match(program.source.begin(), program.source.end(), kernel), end;
    for (; match != end; ++match)
        text += "LAUNCHER(" + match->str(1) + ", " + match->str(1) + ")\n";
    return text;
}

}  // namespace

extern "C" {

int nvrtcVersion(int *major, int *minor) { return *major = CUDA, *minor = 0, SUCCESS; }

int nvrtcGetNumSupportedArchs(int *count) { return *count = std::size(ARCHITECTURES), SUCCESS; }

int nvrtcGetSupportedArchs(int *architectures) {
    std::memcpy(architectures, ARCHITECTURES, sizeof ARCHITECTURES);
    return SUCCESS;
}

const char *nvrtcGetErrorString(int error) {
    return error ? "g++ in the place of NVRTC failed" : "NVRTC_SUCCESS";
}

int nvrtcCreateProgram(
    void **program, const char *source, const char *, int count, const char *const *texts,
    const char *const *names) {
    auto made = new Program{source};
    for (int i = 0; i < count; ++i) made->headers.emplace_back(names[i], texts[i]);
    *program = made;
    return SUCCESS;
}

int nvrtcDestroyProgram(void **program) {
    delete static_cast<Program *>(*program);
    return SUCCESS;
}

int nvrtcAddNameExpression(void *program, const char *expression) {
    at(program).expressions.push_back(expression);
    return SUCCESS;
}

int nvrtcGetLoweredName(void *program, const char *expression, const char **name) {
    static std::vector<std::string> names;
    auto &all = at(program).expressions;
    auto found = std::find(all.begin(), all.end(), expression);
    if (found == all.end()) return NAME_EXPRESSION_NOT_VALID;
    names.reserve(1000);  // what was given away must not move
    names.push_back("expression_" + std::to_string(found - all.begin()));
    *name = names.back().c_str();
    return SUCCESS;
}

int nvrtcCompileProgram(void *handle, int count, const char *const *options) {
    Program &program = at(handle);
    char made[] = "/tmp/program-XXXXXX";
    std::filesystem::path folder = mkdtemp(made);
    std::string command =
        "g++ -std=c++17 -O1 -ffp-contract=off -fno-gnu-unique -w -shared -fPIC "
        "-D__CUDACC_VER_MAJOR__=" + std::to_string(CUDA) + " -I" + quoted(HERE) + " -I" + quoted(folder);
    // Before CuPy's, which may bring headers of an older CUDA that the host cannot compile.
    command += " -I" + quoted(std::string(std::getenv("CUDA_PATH")) + "/include");
    for (int i = 0; i < count; ++i)
        if (std::regex_search(options[i], std::regex("^-[DI].")))
            command += " " + quoted(options[i]);
    for (auto &[name, text] : program.headers) std::ofstream(folder / name) << text;
    std::ofstream(folder / "kernel.cpp") << complete(program);
    command += " kernel.cpp -o kernel.so 2> log";
    int status = std::system(("cd " + quoted(folder) + " && " + command).c_str());
    program.log = read(folder / "log");
    program.library = read(folder / "kernel.so");
    std::filesystem::remove_all(folder);
    return status ? COMPILATION : SUCCESS;
}

int nvrtcGetCUBINSize(void *program, size_t *size) {
    return *size = at(program).library.size(), SUCCESS;
}

int nvrtcGetCUBIN(void *program, char *library) {
    at(program).library.copy(library, std::string::npos);
    return SUCCESS;
}

// CuPy reads the comments of an empty program's PTX.
int nvrtcGetPTXSize(void *, size_t *size) { return *size = sizeof "// g++\n", SUCCESS; }
int nvrtcGetPTX(void *, char *text) { return std::strcpy(text, "// g++\n"), SUCCESS; }

int nvrtcGetProgramLogSize(void *program, size_t *size) {
    return *size = at(program).log.size() + 1, SUCCESS;
}

int nvrtcGetProgramLog(void *program, char *log) {
    std::strcpy(log, at(program).log.c_str());
    return SUCCESS;
}

}  // extern "C"
