// Stands in for cuDNN 9 where there is no GPU: graphs of one convolution, computed by the CPU.
//
// Device memory is the host's. Of cuDNN's interface there is what its Python front end calls to
// build and run such a graph. A descriptor is a list of attributes; finalizing it checks them and
// adds those that cuDNN answers itself. Numbers are those of cudnn_graph.h.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "device.h"

struct cudnnContext {
    void *stream = nullptr;
};

namespace {

constexpr size_t VERSION = 91901;
constexpr int64_t WORKSPACE_BYTES = 1024;
// Both sum in float32; the first rounds float32 factors to TF32.
constexpr int64_t TENSOR_CORE_ENGINE = 0, PLAIN_ENGINE = 1, ENGINES = 2;

enum Status {
    SUCCESS = 0, BAD_PARAM = 2000, NOT_FINALIZED = 2004, NOT_SUPPORTED = 3000,
    OUT_OF_MEMORY = 4003, EXECUTION_FAILED = 5000,
};

enum DescriptorType {
    CONVOLUTION = 1, ENGINE, CONFIGURATION, HEURISTIC, PLAN, KNOB_CHOICE = 7, KNOB_INFO,
    FORWARD = 10, BACKWARD_FILTER, BACKWARD_DATA, GRAPH = 15, VARIANT_PACK, TENSOR, DEVICE = 38,
};

enum Attribute {
    CONVOLUTION_COMPUTE_TYPE = 100, CONVOLUTION_MODE, CONVOLUTION_DILATIONS, CONVOLUTION_STRIDES,
    CONVOLUTION_POST_PADDINGS, CONVOLUTION_PRE_PADDINGS, CONVOLUTION_DIMENSIONS,
    HEURISTIC_MODE = 200, HEURISTIC_GRAPH, HEURISTIC_RESULTS, HEURISTIC_SM_COUNT,
    HEURISTIC_DEVICE,
    CONFIGURATION_ENGINE = 300, CONFIGURATION_KNOBS = 302, CONFIGURATION_WORKSPACE_SIZE,
    CONFIGURATION_SHARED_MEMORY,
    PLAN_HANDLE = 400, PLAN_CONFIGURATION, PLAN_WORKSPACE_SIZE, PLAN_DEVICE = 407,
    FORWARD_FIRST = 700, BACKWARD_DATA_FIRST = 706, BACKWARD_FILTER_FIRST = 712,
    GRAPH_HANDLE = 800, GRAPH_OPERATIONS, GRAPH_ENGINE_COUNT,
    TENSOR_ALIGNMENT = 900, TENSOR_TYPE, TENSOR_SHAPE, TENSOR_STRIDES, TENSOR_VECTOR_COUNT,
    TENSOR_VECTOR_DIMENSION, TENSOR_UNIQUE_ID, TENSOR_IS_VIRTUAL, TENSOR_IS_BY_VALUE,
    TENSOR_REORDERING,
    PACK_UNIQUE_IDS = 1000, PACK_POINTERS, PACK_WORKSPACE = 1003,
    ENGINE_GRAPH = 1300, ENGINE_INDEX, ENGINE_KNOBS, ENGINE_NUMERICAL_NOTES,
    ENGINE_BEHAVIOR_NOTES = 1305, ENGINE_DEVICE = 1307,
    DEVICE_ID = 2700, DEVICE_HANDLE, DEVICE_JSON,
};

// The attributes of a convolution operation, each counted from its operation's first.
enum { ALPHA, BETA, WINDOW, W_TENSOR, X_TENSOR, Y_TENSOR };

enum AttributeType {
    HANDLE = 0, DATA_TYPE, BOOLEAN, INT64, FLOAT, POINTER = 6, CONVOLVE_MODE, HEURISTICS_MODE,
    NUMERICAL_NOTE = 11, DESCRIPTOR = 15, BEHAVIOR_NOTE = 19, REORDERING, INT32 = 23, CHAR,
};

constexpr int DATA_FLOAT = 0, DATA_HALF = 2, CROSS_CORRELATION = 1;
constexpr int FALLBACK_MODE = 2, TENSOR_CORE_NOTE = 0;

// ---------------------------------------------------------------------------------------- Errors

thread_local std::string last_error;

struct Failure {
    Status status;
    std::string message;
};

void refuse_if(bool wrong, const std::string &message, Status status = BAD_PARAM) {
    if (wrong) throw Failure{status, message};
}

// Runs an interface function's body; what it throws becomes a status and the last error's message.
template <typename Body>
int guarded(Body body) {
    try {
        body();
        return SUCCESS;
    } catch (const Failure &failure) {
        last_error = "cuDNN on the CPU: " + failure.message;
        return failure.status;
    } catch (const std::bad_alloc &) {
        last_error = "cuDNN on the CPU: out of memory";
        return OUT_OF_MEMORY;
    }
}

// ----------------------------------------------------------------------------------- Descriptors

// An attribute that a descriptor may have, an answer once it is finalized.
struct Rule {
    int attribute, type;
    enum { REQUIRED, OPTIONAL, ANSWER } use = OPTIONAL;
    int64_t most = 1;  // elements
};

using Rules = std::vector<Rule>;
constexpr auto REQUIRED = Rule::REQUIRED, OPTIONAL = Rule::OPTIONAL, ANSWER = Rule::ANSWER;
constexpr int64_t MANY = std::numeric_limits<int64_t>::max();

Rules operation_rules(int first) {
    return {{first + ALPHA, FLOAT, REQUIRED}, {first + BETA, FLOAT, REQUIRED},
            {first + WINDOW, DESCRIPTOR, REQUIRED}, {first + W_TENSOR, DESCRIPTOR, REQUIRED},
            {first + X_TENSOR, DESCRIPTOR, REQUIRED}, {first + Y_TENSOR, DESCRIPTOR, REQUIRED}};
}

const std::map<int, Rules> RULES = {
    {TENSOR,
     {{TENSOR_UNIQUE_ID, INT64, REQUIRED}, {TENSOR_TYPE, DATA_TYPE, REQUIRED},
      {TENSOR_ALIGNMENT, INT64, REQUIRED}, {TENSOR_SHAPE, INT64, REQUIRED, 8},
      {TENSOR_STRIDES, INT64, REQUIRED, 8}, {TENSOR_IS_VIRTUAL, BOOLEAN},
      {TENSOR_IS_BY_VALUE, BOOLEAN}, {TENSOR_VECTOR_COUNT, INT64},
      {TENSOR_VECTOR_DIMENSION, INT64}, {TENSOR_REORDERING, REORDERING}}},
    {CONVOLUTION,
     {{CONVOLUTION_COMPUTE_TYPE, DATA_TYPE, REQUIRED}, {CONVOLUTION_MODE, CONVOLVE_MODE, REQUIRED},
      {CONVOLUTION_DIMENSIONS, INT64, REQUIRED}, {CONVOLUTION_DILATIONS, INT64, REQUIRED, 8},
      {CONVOLUTION_STRIDES, INT64, REQUIRED, 8}, {CONVOLUTION_PRE_PADDINGS, INT64, REQUIRED, 8},
      {CONVOLUTION_POST_PADDINGS, INT64, REQUIRED, 8}}},
    {FORWARD, operation_rules(FORWARD_FIRST)},
    {BACKWARD_DATA, operation_rules(BACKWARD_DATA_FIRST)},
    {BACKWARD_FILTER, operation_rules(BACKWARD_FILTER_FIRST)},
    {GRAPH,
     {{GRAPH_HANDLE, HANDLE}, {GRAPH_OPERATIONS, DESCRIPTOR, REQUIRED, MANY},
      {GRAPH_ENGINE_COUNT, INT64, ANSWER}}},
    {DEVICE, {{DEVICE_ID, INT32}, {DEVICE_HANDLE, HANDLE}, {DEVICE_JSON, CHAR, OPTIONAL, MANY}}},
    {HEURISTIC,
     {{HEURISTIC_GRAPH, DESCRIPTOR, REQUIRED}, {HEURISTIC_MODE, HEURISTICS_MODE, REQUIRED},
      {HEURISTIC_DEVICE, DESCRIPTOR}, {HEURISTIC_SM_COUNT, INT32},
      {HEURISTIC_RESULTS, DESCRIPTOR, ANSWER}}},
    {ENGINE,
     {{ENGINE_GRAPH, DESCRIPTOR, REQUIRED}, {ENGINE_INDEX, INT64, REQUIRED},
      {ENGINE_DEVICE, DESCRIPTOR}, {ENGINE_NUMERICAL_NOTES, NUMERICAL_NOTE, ANSWER},
      {ENGINE_BEHAVIOR_NOTES, BEHAVIOR_NOTE, ANSWER}, {ENGINE_KNOBS, DESCRIPTOR, ANSWER}}},
    {CONFIGURATION,
     {{CONFIGURATION_ENGINE, DESCRIPTOR, REQUIRED}, {CONFIGURATION_KNOBS, DESCRIPTOR, OPTIONAL, 0},
      {CONFIGURATION_WORKSPACE_SIZE, INT64, ANSWER},
      {CONFIGURATION_SHARED_MEMORY, INT32, ANSWER}}},
    {KNOB_CHOICE, {}},  // the front end makes these two, and then finds no knobs
    {KNOB_INFO, {}},
    {PLAN,
     {{PLAN_HANDLE, HANDLE}, {PLAN_DEVICE, DESCRIPTOR}, {PLAN_CONFIGURATION, DESCRIPTOR, REQUIRED},
      {PLAN_WORKSPACE_SIZE, INT64, ANSWER}}},
    {VARIANT_PACK,
     {{PACK_UNIQUE_IDS, INT64, REQUIRED, MANY}, {PACK_POINTERS, POINTER, REQUIRED, MANY},
      {PACK_WORKSPACE, POINTER}}},
};

int64_t size_of(int type) {
    if (type == HANDLE || type == POINTER || type == DESCRIPTOR || type == INT64) return 8;
    return type == BOOLEAN || type == CHAR ? 1 : 4;
}

struct Descriptor;

struct Value {
    std::vector<char> bytes;                                  // of plain elements
    std::vector<std::shared_ptr<const Descriptor>> children;  // or copies of descriptors
};

struct Descriptor {
    int type;
    bool finalized = false;
    std::map<int, Value> values = {};

    const Rule &rule(int attribute, int attribute_type) const {
        const Rules &rules = RULES.at(type);
        auto found = std::find_if(rules.begin(), rules.end(), [=](const Rule &rule) {
            return rule.attribute == attribute && rule.type == attribute_type;
        });
        refuse_if(found == rules.end(),
                  "descriptor type " + std::to_string(type) + " has no attribute " +
                      std::to_string(attribute) + " of type " + std::to_string(attribute_type));
        return *found;
    }

    template <typename Element>
    std::vector<Element> all(int attribute) const {
        auto bytes = values.at(attribute).bytes;
        auto elements = reinterpret_cast<const Element *>(bytes.data());
        return std::vector<Element>(elements, elements + bytes.size() / sizeof(Element));
    }

    template <typename Element>
    Element one(int attribute, Element otherwise = {}) const {
        return values.count(attribute) ? all<Element>(attribute)[0] : otherwise;
    }

    const Descriptor &child(int attribute) const { return *values.at(attribute).children[0]; }

    template <typename Element>
    void answer(int attribute, const std::vector<Element> &elements) {
        auto bytes = reinterpret_cast<const char *>(elements.data());
        values[attribute].bytes.assign(bytes, bytes + elements.size() * sizeof(Element));
    }
};

Descriptor &descriptor_at(void *pointer) {
    refuse_if(!pointer, "a descriptor is a null pointer");
    return *static_cast<Descriptor *>(pointer);
}

const Descriptor &finalized_at(void *pointer) {
    refuse_if(!descriptor_at(pointer).finalized, "a descriptor is not finalized", NOT_FINALIZED);
    return descriptor_at(pointer);
}

// --------------------------------------------------------------------------------- Convolutions

struct Tensor {
    int64_t uid, alignment;
    bool half, supported;
    std::vector<int64_t> shape, strides;  // batch or outputs, channels, height, width

    explicit Tensor(const Descriptor &tensor)
        : uid(tensor.one<int64_t>(TENSOR_UNIQUE_ID)),
          alignment(tensor.one<int64_t>(TENSOR_ALIGNMENT)),
          half(tensor.one<int>(TENSOR_TYPE) == DATA_HALF),
          supported((half || tensor.one<int>(TENSOR_TYPE) == DATA_FLOAT) &&
                    !tensor.one<char>(TENSOR_IS_VIRTUAL) && !tensor.one<char>(TENSOR_IS_BY_VALUE) &&
                    tensor.one<int64_t>(TENSOR_VECTOR_COUNT, 1) == 1 &&
                    tensor.one<int>(TENSOR_REORDERING) == 0),
          shape(tensor.all<int64_t>(TENSOR_SHAPE)),
          strides(tensor.all<int64_t>(TENSOR_STRIDES)) {
        refuse_if(shape.size() != 4, "a tensor has not four dimensions", NOT_SUPPORTED);
        refuse_if(overlaps(), "a tensor's elements overlap");
    }

    bool overlaps() const {
        std::vector<std::pair<int64_t, int64_t>> axes;  // stride and size
        for (size_t i = 0; i < shape.size(); ++i)
            if (shape[i] > 1) axes.emplace_back(strides[i], shape[i]);
        std::sort(axes.begin(), axes.end());
        int64_t furthest = 0;  // index of the last element along the axes so far
        for (auto [stride, size] : axes) {
            if (stride <= furthest) return true;
            furthest += (size - 1) * stride;
        }
        return false;
    }

    // Calls move(index of the element in memory) in the order batch, height, width, channel.
    template <typename Move>
    void visit(Move move) const {
        for (int64_t n = 0; n < shape[0]; ++n)
            for (int64_t h = 0; h < shape[2]; ++h)
                for (int64_t w = 0; w < shape[3]; ++w)
                    for (int64_t c = 0; c < shape[1]; ++c)
                        move(n * strides[0] + c * strides[1] + h * strides[2] + w * strides[3]);
    }
};

struct Convolution {
    int operation, first;  // its type, and its first attribute
    Tensor x, W, y;
    std::vector<int64_t> stride, pad, post_pad, dilation;
    bool plain;  // only its shapes and types are left to check
    bool tf32 = false;

    explicit Convolution(const Descriptor &made)
        : operation(made.type),
          first(RULES.at(made.type)[0].attribute),
          x(made.child(first + X_TENSOR)),
          W(made.child(first + W_TENSOR)),
          y(made.child(first + Y_TENSOR)) {
        const Descriptor &window = made.child(first + WINDOW);
        stride = window.all<int64_t>(CONVOLUTION_STRIDES);
        pad = window.all<int64_t>(CONVOLUTION_PRE_PADDINGS);
        post_pad = window.all<int64_t>(CONVOLUTION_POST_PADDINGS);
        dilation = window.all<int64_t>(CONVOLUTION_DILATIONS);
        plain = window.one<int>(CONVOLUTION_COMPUTE_TYPE) == DATA_FLOAT &&
                window.one<int>(CONVOLUTION_MODE) == CROSS_CORRELATION &&
                made.one<float>(first + ALPHA) == 1 && made.one<float>(first + BETA) == 0;
        check();
    }

    // Checks what cuDNN's operations check.
    void check() const {
        refuse_if(stride.size() != 2, "there are not two spatial dimensions", NOT_SUPPORTED);
        refuse_if(x.uid == W.uid || x.uid == y.uid || W.uid == y.uid,
                  "two of a convolution's tensors have the same unique id");
        refuse_if(x.shape[1] % W.shape[1], "x's and W's channels do not fit");
        refuse_if(x.shape[0] != y.shape[0], "x's and y's batch sizes differ");
        refuse_if(W.shape[0] != y.shape[1], "y's channels are not W's outputs");
        for (int i = 0; i < 2; ++i) {
            int64_t window = dilation[i] * (W.shape[2 + i] - 1) + 1;
            int64_t room = x.shape[2 + i] + pad[i] + post_pad[i] - window;
            refuse_if(room < 0 || y.shape[2 + i] != room / stride[i] + 1,
                      "y's height or width does not follow from x, W, pad, stride and dilation");
        }
    }

    // Checks what cuDNN's engines check, and refuses what they can do and this one cannot.
    void check_support() const {
        refuse_if(!x.supported || !W.supported || !y.supported,
                  "a tensor is not float32 or float16 in plain memory", NOT_SUPPORTED);
        refuse_if(x.half != W.half || x.half != y.half, "x, W and y differ in type", NOT_SUPPORTED);
        refuse_if(!plain, "the convolution is not in float32, or it is flipped or scaled or added",
                  NOT_SUPPORTED);
        refuse_if(x.shape[1] != W.shape[1], "there are no grouped convolutions", NOT_SUPPORTED);
    }
};

using Floats = std::vector<float>;

// Rounds to 10 explicit mantissa bits, to nearest and ties away from zero.
float to_tf32(float number) {
    if (!std::isfinite(number)) return number;
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    bits = (bits + 0x1000) & ~uint32_t{0x1fff};
    std::memcpy(&number, &bits, sizeof bits);
    return number;
}

// Returns a tensor's elements in the order of its visit(), zeros for no memory.
Floats load(const Tensor &tensor, const void *memory, bool tf32) {
    Floats elements(tensor.shape[0] * tensor.shape[1] * tensor.shape[2] * tensor.shape[3]);
    auto next = elements.begin();
    if (memory)
        tensor.visit([&](int64_t at) {
            float element = tensor.half ? float(static_cast<const _Float16 *>(memory)[at])
                                        : static_cast<const float *>(memory)[at];
            *next++ = tf32 ? to_tf32(element) : element;
        });
    return elements;
}

template <typename Next>
void store(const Tensor &tensor, void *memory, Next next) {
    tensor.visit([&](int64_t at) {
        if (tensor.half)
            static_cast<_Float16 *>(memory)[at] = _Float16(next());
        else
            static_cast<float *>(memory)[at] = next();
    });
}

constexpr int64_t LANES = 16, TILE_ROWS = 8;
constexpr int64_t CHUNK = 512;  // places of the output that are computed together
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

int64_t padded(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

// result = first second. `columns` is a multiple of LANES, `rows` of TILE_ROWS.
void multiply(
    int64_t rows, int64_t inner, int64_t columns, const float *first, int64_t row_stride,
    int64_t inner_stride, const float *second, float *result) {
    for (int64_t column = 0; column < columns; column += LANES)
        for (int64_t row = 0; row < rows; row += TILE_ROWS) {
            Lanes sums[TILE_ROWS] = {};
            const float *a = first + row * row_stride, *b = second + column;
            for (int64_t i = 0; i < inner; ++i, a += inner_stride, b += columns)
                for (int64_t r = 0; r < TILE_ROWS; ++r)
                    sums[r] += a[r * row_stride] * *reinterpret_cast<const Lanes *>(b);
            for (int64_t r = 0; r < TILE_ROWS; ++r)
                *reinterpret_cast<Lanes *>(&result[(row + r) * columns + column]) = sums[r];
        }
}

// Computes one of the arrays x, W and y from the other two, all in the order of load().
struct Computation {
    const Convolution &convolution;
    Floats x, W, y;
    // A place is a pixel of y, a tap an element of a window on x.
    int64_t places = convolution.y.shape[0] * convolution.y.shape[2] * convolution.y.shape[3];
    int64_t inputs = convolution.x.shape[1], outputs = convolution.W.shape[0];
    int64_t taps = convolution.W.shape[2] * convolution.W.shape[3] * inputs;
    int64_t output_columns = padded(outputs), tap_columns = padded(taps);
    Floats windows = Floats(CHUNK * tap_columns), rows_of_y = Floats(CHUNK * output_columns);

    void forward() {
        Floats weights(taps * output_columns);
        for (int64_t output = 0; output < outputs; ++output)
            for (int64_t tap = 0; tap < taps; ++tap)
                weights[tap * output_columns + output] = W[output * taps + tap];
        for (int64_t start = 0; start < places; start += CHUNK) {
            gather(start);
            multiply(CHUNK, taps, output_columns, windows.data(), tap_columns, 1, weights.data(),
                     rows_of_y.data());
            for (int64_t i = start; i < end(start); ++i)
                std::copy_n(&rows_of_y[(i - start) * output_columns], outputs, &y[i * outputs]);
        }
    }

    void backward_data() {
        Floats weights(outputs * tap_columns);
        for (int64_t output = 0; output < outputs; ++output)
            std::copy_n(&W[output * taps], taps, &weights[output * tap_columns]);
        for (int64_t start = 0; start < places; start += CHUNK) {
            take(start);
            multiply(CHUNK, outputs, tap_columns, rows_of_y.data(), output_columns, 1,
                     weights.data(), windows.data());
            visit(start, [&](const float *window, float *pixel) {
                for (int64_t c = 0; pixel && c < inputs; ++c) pixel[c] += window[c];
            });
        }
    }

    void backward_filter() {
        Floats part(output_columns * tap_columns);
        for (int64_t start = 0; start < places; start += CHUNK) {
            gather(start);
            take(start);
            multiply(output_columns, CHUNK, tap_columns, rows_of_y.data(), 1, output_columns,
                     windows.data(), part.data());
            for (int64_t output = 0; output < outputs; ++output)
                for (int64_t tap = 0; tap < taps; ++tap)
                    W[output * taps + tap] += part[output * tap_columns + tap];
        }
    }

    int64_t end(int64_t start) const { return std::min(start + CHUNK, places); }

    // Calls move(memory in windows, pixel of x or null outside of it) for a chunk of places.
    template <typename Move>
    void visit(int64_t start, Move move) {
        auto &shape = convolution.x.shape, &window = convolution.W.shape;
        auto &stride = convolution.stride, &pad = convolution.pad;
        int64_t height = convolution.y.shape[2], width = convolution.y.shape[3];
        for (int64_t i = start; i < end(start); ++i) {
            int64_t image = i / width / height, row = i / width % height, column = i % width;
            float *memory = &windows[(i - start) * tap_columns];
            for (int64_t kh = 0; kh < window[2]; ++kh)
                for (int64_t kw = 0; kw < window[3]; ++kw, memory += inputs) {
                    int64_t h = row * stride[0] - pad[0] + kh * convolution.dilation[0];
                    int64_t w = column * stride[1] - pad[1] + kw * convolution.dilation[1];
                    bool inside = 0 <= h && h < shape[2] && 0 <= w && w < shape[3];
                    int64_t pixel = (image * shape[2] + h) * shape[3] + w;
                    move(memory, inside ? &x[pixel * inputs] : nullptr);
                }
        }
    }

    // Fills windows with what the kernel sees at each place of a chunk.
    void gather(int64_t start) {
        std::fill(windows.begin(), windows.end(), 0.0f);
        visit(start, [&](float *window, const float *pixel) {
            if (pixel) std::copy_n(pixel, inputs, window);
        });
    }

    void take(int64_t start) {
        std::fill(rows_of_y.begin(), rows_of_y.end(), 0.0f);
        for (int64_t i = start; i < end(start); ++i)
            std::copy_n(&y[i * outputs], outputs, &rows_of_y[(i - start) * output_columns]);
    }
};

// The result's memory and the workspace are spoilt first, so that a wrong use of them shows.
void run(const Convolution &convolution, void *x, void *W, void *y, void *workspace) {
    bool makes_y = convolution.operation == FORWARD;
    bool makes_x = convolution.operation == BACKWARD_DATA;
    bool makes_W = convolution.operation == BACKWARD_FILTER;
    const Tensor &result = makes_y ? convolution.y : makes_x ? convolution.x : convolution.W;
    void *memory = makes_y ? y : makes_x ? x : W;
    std::memset(workspace, 0xAB, WORKSPACE_BYTES);
    store(result, memory, [] { return std::numeric_limits<float>::quiet_NaN(); });

    Computation computation{
        convolution, load(convolution.x, makes_x ? nullptr : x, convolution.tf32),
        load(convolution.W, makes_W ? nullptr : W, convolution.tf32),
        load(convolution.y, makes_y ? nullptr : y, convolution.tf32)};
    if (makes_y) computation.forward();
    if (makes_x) computation.backward_data();
    if (makes_W) computation.backward_filter();
    const Floats &elements = makes_y ? computation.y : makes_x ? computation.x : computation.W;
    auto next = elements.begin();
    store(result, memory, [&] { return *next++; });
    std::memset(workspace, 0xAB, WORKSPACE_BYTES);
}

// ------------------------------------------------------------------------- Finalizing, executing

void check_numbers(const Descriptor &descriptor, int attribute, size_t count, int64_t least) {
    auto numbers = descriptor.all<int64_t>(attribute);
    auto low = std::min_element(numbers.begin(), numbers.end());
    refuse_if(numbers.size() != count || *low < least,
              "attribute " + std::to_string(attribute) + " has a wrong value");
}

void finalize(Descriptor &descriptor);

std::shared_ptr<const Descriptor> configuration(const Value &graph, int64_t index) {
    auto engine = std::make_shared<Descriptor>(Descriptor{ENGINE});
    engine->values[ENGINE_GRAPH] = graph;
    engine->answer<int64_t>(ENGINE_INDEX, {index});
    finalize(*engine);
    auto made = std::make_shared<Descriptor>(Descriptor{CONFIGURATION});
    made->values[CONFIGURATION_ENGINE].children = {engine};
    finalize(*made);
    return made;
}

void finalize(Descriptor &descriptor) {
    auto &values = descriptor.values;
    for (const Rule &rule : RULES.at(descriptor.type))
        refuse_if(rule.use == REQUIRED && !values.count(rule.attribute),
                  "attribute " + std::to_string(rule.attribute) + " is not set");
    if (descriptor.type == TENSOR) {
        size_t dimensions = descriptor.all<int64_t>(TENSOR_SHAPE).size();
        check_numbers(descriptor, TENSOR_SHAPE, dimensions, 1);
        check_numbers(descriptor, TENSOR_STRIDES, dimensions, 1);
        check_numbers(descriptor, TENSOR_ALIGNMENT, 1, 1);
    } else if (descriptor.type == CONVOLUTION) {
        size_t dimensions = descriptor.one<int64_t>(CONVOLUTION_DIMENSIONS);
        check_numbers(descriptor, CONVOLUTION_STRIDES, dimensions, 1);
        check_numbers(descriptor, CONVOLUTION_DILATIONS, dimensions, 1);
        check_numbers(descriptor, CONVOLUTION_PRE_PADDINGS, dimensions, 0);
        check_numbers(descriptor, CONVOLUTION_POST_PADDINGS, dimensions, 0);
    } else if (
        descriptor.type == FORWARD || descriptor.type == BACKWARD_DATA ||
        descriptor.type == BACKWARD_FILTER) {
        Convolution{descriptor};
    } else if (descriptor.type == GRAPH) {
        refuse_if(values.at(GRAPH_OPERATIONS).children.size() != 1,
                  "a graph has not one operation", NOT_SUPPORTED);
        descriptor.answer<int64_t>(GRAPH_ENGINE_COUNT, {ENGINES});
    } else if (descriptor.type == HEURISTIC) {
        const Descriptor &graph = descriptor.child(HEURISTIC_GRAPH);
        Convolution(graph.child(GRAPH_OPERATIONS)).check_support();
        bool fallback = descriptor.one<int>(HEURISTIC_MODE) == FALLBACK_MODE;
        auto &results = values[HEURISTIC_RESULTS].children;
        for (int64_t index = fallback ? PLAIN_ENGINE : TENSOR_CORE_ENGINE; index < ENGINES; ++index)
            results.push_back(configuration(values.at(HEURISTIC_GRAPH), index));
    } else if (descriptor.type == ENGINE) {
        Convolution(descriptor.child(ENGINE_GRAPH).child(GRAPH_OPERATIONS)).check_support();
        int64_t index = descriptor.one<int64_t>(ENGINE_INDEX);
        refuse_if(index < 0 || index >= ENGINES, "there is no such engine");
        // The plain one has no notes at all: to any, the front end adds that of tensor cores.
        std::vector<int> notes(index == TENSOR_CORE_ENGINE, TENSOR_CORE_NOTE);
        descriptor.answer(ENGINE_NUMERICAL_NOTES, notes);
        descriptor.answer<int>(ENGINE_BEHAVIOR_NOTES, {});
        descriptor.answer<int>(ENGINE_KNOBS, {});
    } else if (descriptor.type == CONFIGURATION) {
        descriptor.answer<int>(CONFIGURATION_KNOBS, {});
        descriptor.answer<int64_t>(CONFIGURATION_WORKSPACE_SIZE, {WORKSPACE_BYTES});
        descriptor.answer<int>(CONFIGURATION_SHARED_MEMORY, {0});
    } else if (descriptor.type == PLAN) {
        descriptor.answer<int64_t>(PLAN_WORKSPACE_SIZE, {WORKSPACE_BYTES});
    } else if (descriptor.type == VARIANT_PACK) {
        refuse_if(values.at(PACK_UNIQUE_IDS).bytes.size() != values.at(PACK_POINTERS).bytes.size(),
                  "a variant pack has not as many pointers as unique ids");
    }
    descriptor.finalized = true;
}

void *find(const Descriptor &pack, const Tensor &tensor) {
    auto uids = pack.all<int64_t>(PACK_UNIQUE_IDS);
    auto pointers = pack.all<void *>(PACK_POINTERS);
    auto name = "the memory of tensor " + std::to_string(tensor.uid);
    auto found = std::find(uids.begin(), uids.end(), tensor.uid);
    refuse_if(found == uids.end(), name + " is missing");
    void *pointer = pointers[found - uids.begin()];
    refuse_if(!pointer, name + " is a null pointer");
    refuse_if(reinterpret_cast<uintptr_t>(pointer) % tensor.alignment, name + " is not aligned");
    return pointer;
}

void execute(void *stream, const Descriptor &plan, const Descriptor &pack) {
    refuse_if(plan.type != PLAN || pack.type != VARIANT_PACK, "not a plan and a variant pack");
    const Descriptor &engine = plan.child(PLAN_CONFIGURATION).child(CONFIGURATION_ENGINE);
    Convolution convolution(engine.child(ENGINE_GRAPH).child(GRAPH_OPERATIONS));
    bool tensor_cores = engine.one<int64_t>(ENGINE_INDEX) == TENSOR_CORE_ENGINE;
    convolution.tf32 = tensor_cores && !convolution.x.half;
    void *x = find(pack, convolution.x), *W = find(pack, convolution.W);
    void *y = find(pack, convolution.y), *workspace = pack.one<void *>(PACK_WORKSPACE);
    refuse_if(!workspace, "the workspace is a null pointer");
    int error = submit(stream, [=] { run(convolution, x, W, y, workspace); });
    refuse_if(error, "CUDA's error " + std::to_string(error), EXECUTION_FAILED);
}

}  // namespace

// ------------------------------------------------------------------------------------- Interface

extern "C" {

size_t cudnnGetVersion() { return VERSION; }

const char *cudnnGetErrorString(int status) {
    static const std::map<int, const char *> names = {
        {SUCCESS, "CUDNN_STATUS_SUCCESS"},
        {BAD_PARAM, "CUDNN_STATUS_BAD_PARAM"},
        {NOT_FINALIZED, "CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED"},
        {NOT_SUPPORTED, "CUDNN_STATUS_NOT_SUPPORTED"},
        {OUT_OF_MEMORY, "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"},
        {EXECUTION_FAILED, "CUDNN_STATUS_EXECUTION_FAILED"},
    };
    auto found = names.find(status);
    return found == names.end() ? "CUDNN_UNKNOWN_STATUS" : found->second;
}

void cudnnGetLastErrorString(char *message, size_t size) {
    if (size) message[last_error.copy(message, size - 1)] = '\0';
}

int cudnnCreate(cudnnContext **handle) {
    return guarded([=] { *handle = new cudnnContext; });
}

int cudnnDestroy(cudnnContext *handle) {
    delete handle;
    return SUCCESS;
}

int cudnnSetStream(cudnnContext *handle, void *stream) {
    return guarded([=] {
        refuse_if(!handle, "the handle is a null pointer");
        handle->stream = stream;
    });
}

int cudnnGetStream(cudnnContext *handle, void **stream) {
    return guarded([=] {
        refuse_if(!handle, "the handle is a null pointer");
        *stream = handle->stream;
    });
}

int cudnnBackendCreateDescriptor(int type, void **descriptor) {
    return guarded([=] {
        refuse_if(!RULES.count(type), "descriptor type " + std::to_string(type), NOT_SUPPORTED);
        *descriptor = new Descriptor{type};
    });
}

int cudnnBackendDestroyDescriptor(void *descriptor) {
    delete static_cast<Descriptor *>(descriptor);
    return SUCCESS;
}

int cudnnBackendSetAttribute(
    void *pointer, int attribute, int type, int64_t count, const void *elements) {
    return guarded([=] {
        Descriptor &descriptor = descriptor_at(pointer);
        const Rule &rule = descriptor.rule(attribute, type);
        auto name = "attribute " + std::to_string(attribute);
        refuse_if(descriptor.finalized, name + " is set after its descriptor was finalized");
        refuse_if(rule.use == ANSWER, name + " cannot be set");
        refuse_if(count < std::min<int64_t>(rule.most, 1) || count > rule.most,
                  name + " has a wrong number of elements");
        refuse_if(count && !elements, name + " is a null pointer");
        Value value;
        if (type == DESCRIPTOR) {
            auto children = static_cast<void *const *>(elements);
            for (int64_t i = 0; i < count; ++i)
                value.children.push_back(std::make_shared<Descriptor>(finalized_at(children[i])));
        } else {
            auto bytes = static_cast<const char *>(elements);
            value.bytes.assign(bytes, bytes + count * size_of(type));
        }
        descriptor.values[attribute] = value;
    });
}

int cudnnBackendGetAttribute(
    void *pointer, int attribute, int type, int64_t wanted, int64_t *count, void *elements) {
    return guarded([=] {
        const Descriptor &descriptor = finalized_at(pointer);
        descriptor.rule(attribute, type);
        auto found = descriptor.values.find(attribute);
        refuse_if(found == descriptor.values.end(),
                  "attribute " + std::to_string(attribute) + " was not set");
        const auto &[bytes, children] = found->second;
        int64_t present = bytes.size() / size_of(type) + children.size();
        if (count) *count = present;
        int64_t given = elements ? std::min(wanted, present) : 0;
        if (type != DESCRIPTOR)
            std::copy_n(bytes.begin(), given * size_of(type), static_cast<char *>(elements));
        for (int64_t i = 0; type == DESCRIPTOR && i < given; ++i) {
            Descriptor &place = descriptor_at(static_cast<void **>(elements)[i]);
            refuse_if(place.type != children[i]->type, "a descriptor has the wrong type");
            place = *children[i];
        }
    });
}

int cudnnBackendFinalize(void *descriptor) {
    return guarded([=] { finalize(descriptor_at(descriptor)); });
}

int cudnnBackendExecute(cudnnContext *handle, void *plan, void *variant_pack) {
    return guarded([=] {
        refuse_if(!handle, "the handle is a null pointer");
        execute(handle->stream, finalized_at(plan), finalized_at(variant_pack));
    });
}

int cudnnBackendPopulateCudaGraph(cudnnContext *, void *, void *, void *) {
    return guarded([] { refuse_if(true, "graphs are captured only", NOT_SUPPORTED); });
}

int cudnnBackendUpdateCudaGraph(cudnnContext *, void *, void *, void *) {
    return guarded([] { refuse_if(true, "graphs are captured only", NOT_SUPPORTED); });
}

}  // extern "C"
