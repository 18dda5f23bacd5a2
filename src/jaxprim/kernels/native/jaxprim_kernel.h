// The functions that every generated handler uses: reading a call of XLA, the loop over batch axes, errors.
//
// It uses only XLA's C API, not the templates of ffi.h, so that a kernel compiles in a fraction of a second.
#pragma once

#if __cplusplus < 201703L
#error "jaxprim needs C++17 or later: leave -std= out of flags=, or give it -std=c++17"
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <complex>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <typeinfo>
#include <unordered_map>
#include <utility>

#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cxxabi.h>
#endif

#include "xla/ffi/api/c_api.h"

// What Python looks up is visible, also with -fvisibility=hidden.
#ifdef _WIN32
#define JAXPRIM_EXPORT extern "C" __declspec(dllexport)
#else
#define JAXPRIM_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace jaxprim {

constexpr int kMaxAxes = 32;

// The version of XLA's API that handlers report. XLA refuses those that were compiled with a later one than its own. All
// that this file uses is in 0.2 already, where it has the same layout, so a library runs in every XLA from there on.
// (jaxprim.kernels.source says the same.)
constexpr int kApiMajor = 0, kApiMinor = 2;
static_assert(XLA_FFI_API_MAJOR == kApiMajor && XLA_FFI_API_MINOR >= kApiMinor,
              "this release of jaxprim does not know the version of XLA's API that the installed jaxlib has");

// An error that is raised in Python, with the kernel's name in front of the message.
struct Refused : std::runtime_error {
  explicit Refused(const std::string& message, XLA_FFI_Error_Code code = XLA_FFI_Error_Code_INVALID_ARGUMENT)
      : std::runtime_error(message), code(code) {}
  XLA_FFI_Error_Code code;
};

// A number as one of the integer type that the author's function takes.
template <class T>
T fit(int64_t value, const char* what) {
  const T narrow = static_cast<T>(value);
  if (static_cast<int64_t>(narrow) != value || (std::is_unsigned_v<T> && value < 0))
    throw Refused(std::string(what) + " of " + std::to_string(value) +
                  " does not fit the integer type of the kernel's argument");
  return narrow;
}

// A size as an argument. It converts to the integer type that the author's function takes, if the value fits. It does not
// become a floating-point number by itself: a parameter of that type is meant for something else.
struct Size {
  int64_t value;
  template <class T, class = std::enable_if_t<std::is_floating_point_v<T>>, class = void>
  explicit operator T() const {
    return static_cast<T>(value);
  }
  template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
  operator T() const {
    return fit<T>(value, "a size");
  }
};

// An attribute that is an integer, as an argument. It may become a floating-point number, as integers do in C++.
struct Integer {
  int64_t value;
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  operator T() const {
    if constexpr (std::is_integral_v<T>)
      return fit<T>(value, "an attribute");
    else
      return static_cast<T>(value);
  }
};

// Division that rounds down, as `//` in a signature does.
inline int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) throw Refused("a size in the signature or in arguments= is divided by 0");
  if (b == -1) return static_cast<int64_t>(0 - static_cast<uint64_t>(a));  // the CPU traps at the smallest a
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

// One operand or result. `own` is the rank of one element; the axes in front of it are batch axes.
struct Buffer {
  char* data;
  const int64_t* dims;
  int64_t rank, own;
  const char* name;

  int64_t batch_rank() const { return rank - own; }
  int64_t size(int64_t axis) const { return dims[batch_rank() + axis]; }
  int64_t count() const {  // numbers in one element
    int64_t n = 1;
    for (int64_t axis = batch_rank(); axis < rank; ++axis) n *= dims[axis];
    return n;
  }
  int64_t total() const { return count() * positions(); }  // numbers in the whole buffer
  int64_t positions() const {  // elements in the whole buffer
    int64_t n = 1;
    for (int64_t axis = 0; axis < batch_rank(); ++axis) n *= dims[axis];
    return n;
  }
  template <class T>
  T* at(int64_t offset) const {
    return reinterpret_cast<T*>(data) + offset;
  }
};

// A function that is known by its address, with what a call of it needs.
struct Entry {
  void* function;
  int32_t* lock;  // only one function with this lock runs at a time; nullptr for none
  int64_t threads;
  std::string name;
  std::map<int64_t, std::string> meanings;
};

// The functions of this process, by the keys that stand in compiled programs. A program may run as long as the process
// does, so nothing is ever removed.
class Table {
 public:
  void add(int64_t key, Entry entry) {
    std::unique_lock<std::shared_mutex> lock(mutex_);
    entries_.emplace(key, std::make_unique<Entry>(std::move(entry)));
  }

  const Entry* find(int64_t key) const {
    std::shared_lock<std::shared_mutex> lock(mutex_);
    const auto found = entries_.find(key);
    return found == entries_.end() ? nullptr : found->second.get();
  }

 private:
  mutable std::shared_mutex mutex_;
  std::unordered_map<int64_t, std::unique_ptr<const Entry>> entries_;
};

// The meaning of a status other than 0; nullptr if the author gave none.
using Meaning = const char* (*)(const Entry* entry, int64_t code);

inline const char* meaning_of_entry(const Entry* entry, int64_t code) {
  const auto found = entry->meanings.find(code);
  return found == entry->meanings.end() ? nullptr : found->second.c_str();
}

class Call {
 public:
  Call(Meaning meaning, XLA_FFI_CallFrame* frame, const Entry* entry = nullptr)
      : meaning_(meaning), frame_(frame), entry_(entry) {}

  void expect(int64_t operands, int64_t results, int64_t attributes) const {
    if (frame_->args.size != operands || frame_->rets.size != results || frame_->attrs.size != attributes)
      refuse("was called with the wrong number of operands, results or attributes");
  }

  Buffer operand(int64_t i, const char* name, XLA_FFI_DataType dtype, int64_t own) const {
    return read(frame_->args.args[i], name, dtype, own);
  }

  Buffer result(int64_t i, const char* name, XLA_FFI_DataType dtype, int64_t own) const {
    return read(frame_->rets.rets[i], name, dtype, own);
  }

  void require(const Buffer& buffer, int64_t axis, int64_t size) const {
    if (buffer.size(axis) != size) refuse(std::string("a size of '") + buffer.name + "' does not fit the signature");
  }

  // Whether an operand and the result that works in its memory came in two buffers.
  bool apart(const Buffer& operand, const Buffer& result) const {
    if (operand.rank != result.rank || !std::equal(operand.dims, operand.dims + operand.rank, result.dims))
      refuse(std::string("'") + result.name + "' does not have the shape of '" + operand.name + "', whose memory it needs");
    return operand.data != result.data;
  }

  // XLA sorts attributes by name; `i` is the position in that order.
  template <class T>
  T attribute(int64_t i, const char* name, XLA_FFI_DataType dtype) const {
    if (i >= frame_->attrs.size) refuse(std::string("attribute '") + name + "' is missing");
    const XLA_FFI_ByteSpan* span = frame_->attrs.names[i];
    const bool is_named = std::strlen(name) == span->len && std::memcmp(name, span->ptr, span->len) == 0;
    if (!is_named || frame_->attrs.types[i] != XLA_FFI_AttrType_SCALAR)
      refuse(std::string("attribute '") + name + "' is missing");
    const auto* scalar = static_cast<const XLA_FFI_Scalar*>(frame_->attrs.attrs[i]);
    if (scalar->dtype != dtype) refuse(std::string("attribute '") + name + "' does not have the type of the signature");
    return *static_cast<const T*>(scalar->value);
  }

  std::string text(int64_t i, const char* name) const {
    if (i >= frame_->attrs.size || frame_->attrs.types[i] != XLA_FFI_AttrType_STRING)
      refuse(std::string("attribute '") + name + "' is missing");
    const auto* span = static_cast<const XLA_FFI_ByteSpan*>(frame_->attrs.attrs[i]);
    return std::string(span->ptr, span->len);
  }

  [[noreturn]] void refuse(const std::string& what) const { throw Refused(what); }

  // A status that is not 0 is an error. An enum is the integer that it stands for.
  template <class Status>
  void status(Status returned) const {
    const auto code = static_cast<int64_t>(returned);
    if (code == 0) return;
    const char* meaning = meaning_(entry_, code);
    throw Refused(meaning != nullptr ? meaning : "the kernel returned status " + std::to_string(code),
                  XLA_FFI_Error_Code_UNKNOWN);
  }

  void* stream() const {
    XLA_FFI_Stream_Get_Args args{};
    args.struct_size = XLA_FFI_Stream_Get_Args_STRUCT_SIZE;
    args.ctx = frame_->ctx;
    if (drop(frame_->api->XLA_FFI_Stream_Get(&args))) refuse("XLA gave no stream");
    return args.stream;
  }

  // The number of threads of XLA's pool; 1 if there is no pool.
  int64_t pool_size() const {
    int64_t threads = 1;
    XLA_FFI_ThreadPool_NumThreads_Args args{};
    args.struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE;
    args.ctx = frame_->ctx;
    args.num_threads = &threads;
    return drop(frame_->api->XLA_FFI_ThreadPool_NumThreads(&args)) ? 1 : threads;
  }

  bool schedule(XLA_FFI_Task* task, void* data) const {
    XLA_FFI_ThreadPool_Schedule_Args args{};
    args.struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE;
    args.ctx = frame_->ctx;
    args.task = task;
    args.data = data;
    return !drop(frame_->api->XLA_FFI_ThreadPool_Schedule(&args));
  }

 private:
  Buffer read(const void* raw, const char* name, XLA_FFI_DataType dtype, int64_t own) const {
    const auto* buffer = static_cast<const XLA_FFI_Buffer*>(raw);
    if (buffer->dtype != dtype || buffer->rank < own || buffer->rank - own > kMaxAxes)
      refuse(std::string("'") + name + "' does not have the type of the signature");
    return {static_cast<char*>(buffer->data), buffer->dims, buffer->rank, own, name};
  }

  bool drop(XLA_FFI_Error* error) const {
    if (error == nullptr) return false;
    XLA_FFI_Error_Destroy_Args args{};
    args.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE;
    args.error = error;
    frame_->api->XLA_FFI_Error_Destroy(&args);
    return true;
  }

  Meaning meaning_;
  XLA_FFI_CallFrame* frame_;
  const Entry* entry_;
};

// Holds a lock that all handlers of this process share; `word` is nullptr for none. Waiting threads sleep.
class Exclusive {
 public:
  explicit Exclusive(int32_t* word) : word_(word) {
    while (word_ != nullptr && exchange(1) != 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
  ~Exclusive() {
    if (word_ != nullptr) exchange(0);
  }
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;

 private:
  int32_t exchange(int32_t value) const {
#ifdef _MSC_VER
    return _InterlockedExchange(reinterpret_cast<volatile long*>(word_), value);
#else
    return __atomic_exchange_n(word_, value, __ATOMIC_ACQ_REL);
#endif
  }

  int32_t* word_;
};

// ------------------------------------------------------------------------------------------ the loop over batch axes
// The offset of the current element in each of N buffers, for each position of the batch. Adjacent axes that are
// contiguous in every buffer are merged into one.
template <int N>
class Walk {
 public:
  Walk(const Call& call, const Buffer (&buffers)[N]) {
    const int64_t rank = buffers[N - 1].batch_rank();
    int64_t step[N];
    for (int b = 0; b < N; ++b) {
      if (buffers[b].batch_rank() != rank) call.refuse("operands and results have different numbers of batch axes");
      step[b] = buffers[b].count();
    }
    for (int64_t axis = rank - 1; axis >= 0; --axis) {
      // An axis has size 1 where an array is the same for the whole batch, or is a sum over it.
      int64_t size = 1;
      for (int b = 0; b < N; ++b)
        if (buffers[b].dims[axis] != 1) size = buffers[b].dims[axis];
      total_ *= size;
      int64_t own[N];
      for (int b = 0; b < N; ++b) {
        const int64_t dim = buffers[b].dims[axis];
        if (dim != size && dim != 1) call.refuse(std::string("the batch axes of '") + buffers[b].name + "' do not fit");
        own[b] = dim == size ? step[b] : 0;
        step[b] *= dim;
      }
      if (size != 1) add(size, own);
    }
  }

  int64_t total() const { return total_; }

  template <class Element>
  void run(int64_t begin, int64_t end, Element& element) const {
    for (int64_t i = begin; i < end;) {
      int64_t at[N];
      locate(i, at);
      const int64_t stop = std::min(end, i + left_in_row(i));
      for (; i < stop; ++i) {
        element(static_cast<const int64_t*>(at));
        if (axes_ != 0)
          for (int b = 0; b < N; ++b) at[b] += steps_[0][b];
      }
    }
  }

 protected:
  // The number of positions from i to the end of the innermost axis.
  int64_t left_in_row(int64_t i) const { return axes_ == 0 ? 1 : sizes_[0] - i % sizes_[0]; }

  void add(int64_t size, const int64_t (&own)[N]) {
    bool runs_on = axes_ > 0;
    for (int b = 0; runs_on && b < N; ++b) runs_on = own[b] == steps_[axes_ - 1][b] * sizes_[axes_ - 1];
    if (runs_on) {
      sizes_[axes_ - 1] *= size;
      return;
    }
    sizes_[axes_] = size;
    std::copy(own, own + N, steps_[axes_]);
    ++axes_;
  }

  void locate(int64_t i, int64_t (&at)[N]) const {
    std::fill(at, at + N, 0);
    for (int axis = 0; axis < axes_; ++axis) {
      for (int b = 0; b < N; ++b) at[b] += (i % sizes_[axis]) * steps_[axis][b];
      i /= sizes_[axis];
    }
  }

  int64_t total_ = 1;
  int axes_ = 0;  // innermost first
  int64_t sizes_[kMaxAxes];
  int64_t steps_[kMaxAxes][N];
};

// Work that several threads of XLA's pool share. The caller works too, and waits only for chunks that some thread has
// begun. A task that starts late finds no work and returns at once, so a full pool cannot deadlock.
class Shared {
 public:
  using Work = void (*)(void* context, int64_t chunk);
  Shared(int64_t chunks, Work work, void* context) : chunks_(chunks), work_(work), context_(context) {}

  void take() {
    for (int64_t chunk = next_++; chunk < chunks_; chunk = next_++) {
      try {
        work_(context_, chunk);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
      std::lock_guard<std::mutex> lock(mutex_);
      if (++done_ == chunks_) all_done_.notify_all();
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    all_done_.wait(lock, [this] { return done_ == chunks_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t chunks_;
  const Work work_;
  void* const context_;
  std::atomic<int64_t> next_{0};
  int64_t done_ = 0;
  std::exception_ptr error_;
  std::mutex mutex_;
  std::condition_variable all_done_;
};

// The number of threads for so many positions, of up to `threads` (0: all of XLA's).
inline int64_t workers_for(const Call& call, int64_t total, int64_t threads) {
  const int64_t pool = threads == 1 || total < 2 ? 1 : call.pool_size();
  return std::min(total, threads == 0 ? pool : std::min(pool, threads));
}

// Run `work(chunk)` for so many chunks, on up to `workers` threads.
template <class Work>
void share(const Call& call, int64_t chunks, int64_t workers, Work& work) {
  auto shared = std::make_shared<Shared>(
      chunks, [](void* context, int64_t chunk) { (*static_cast<Work*>(context))(chunk); }, &work);
  for (int64_t i = 1; i < workers; ++i) {
    auto* held = new std::shared_ptr<Shared>(shared);
    auto task = [](void* data) {
      std::unique_ptr<std::shared_ptr<Shared>> mine(static_cast<std::shared_ptr<Shared>*>(data));
      (*mine)->take();
    };
    if (!call.schedule(task, held)) {
      delete held;
      break;
    }
  }
  shared->take();
  shared->wait();
}

// Run `element(offsets)` for every position of the batch axes, on up to `threads` threads (0: all of XLA's).
template <int N, class Element>
void for_each(const Call& call, const Buffer (&buffers)[N], int64_t threads, Element element) {
  const Walk<N> walk(call, buffers);
  if (buffers[N - 1].positions() != walk.total()) call.refuse("a result does not have the batch axes of the operands");
  const int64_t workers = workers_for(call, walk.total(), threads);
  if (workers < 2) return walk.run(0, walk.total(), element);
  const int64_t chunks = std::min(walk.total(), 4 * workers);  // more chunks than workers, so that a slow worker delays the others little
  auto work = [&](int64_t chunk) {
    walk.run(walk.total() * chunk / chunks, walk.total() * (chunk + 1) / chunks, element);
  };
  share(call, chunks, workers, work);
}

template <class T>
struct Complex : std::false_type {
  using Real = T;
};
template <class T>
struct Complex<std::complex<T>> : std::true_type {
  using Real = T;
};

// Store the number that the author's function returned as the type of the signature, if that holds every such number.
// (Integers wrap, as in NumPy.)
template <class T, class Returned>
void store(T* to, const Returned& returned) {
  using From = typename Complex<Returned>::Real;
  using To = typename Complex<T>::Real;
  constexpr bool is_real = std::is_floating_point_v<From>;
  static_assert(!is_real || !std::is_integral_v<To>,
                "the function returns a floating-point number, and the signature says an integer");
  static_assert(!Complex<Returned>::value || Complex<T>::value,
                "the function returns a complex number, and the signature says a real one");
  static_assert(!is_real || !std::is_floating_point_v<To> || sizeof(From) <= sizeof(To),
                "the function returns a wider number than the signature says, such as a double for an f32");
  *to = static_cast<T>(returned);
}

// Whether what a function returns can be a status, or is nothing.
template <class Returned>
constexpr bool is_status = std::is_void_v<Returned> || std::is_integral_v<std::decay_t<Returned>> ||
                           std::is_enum_v<std::decay_t<Returned>>;

// Call the author's function. If it returns an integer or an enum, that is a status.
template <class Function>
void invoke(const Call& call, Function function) {
  if constexpr (std::is_void_v<decltype(function())>)
    function();
  else if constexpr (is_status<decltype(function())>)
    call.status(function());
}

// ------------------------------------------------------------------------------------------------------- the handler
// Python reads messages as UTF-8. What is not becomes U+FFFD, and so does a byte 0, at which a C string would end.
inline std::string valid_utf8(const std::string& text) {
  std::string found;
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) { return k < text.size() ? static_cast<unsigned char>(text[k]) : 0u; };
    const unsigned first = byte(i);
    const size_t length = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
    uint32_t point = length == 1 ? first : first & (0xffu >> (length + 1));
    bool is_valid = length != 0 && first != 0;
    for (size_t k = 1; is_valid && k < length; ++k) {
      is_valid = byte(i + k) >> 6 == 2;
      point = point << 6 | (byte(i + k) & 0x3f);
    }
    constexpr uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    is_valid = is_valid && point >= smallest[length] && point <= 0x10ffff && point >> 11 != 0x1b;  // no surrogates
    found += is_valid ? text.substr(i, length) : "\xef\xbf\xbd";
    i += is_valid ? length : 1;
  }
  return found;
}

inline XLA_FFI_Error* make_error(const XLA_FFI_Api* api, const char* name, const std::string& what,
                                 XLA_FFI_Error_Code code = XLA_FFI_Error_Code_UNKNOWN) {
  const std::string message = valid_utf8(std::string(name) + ": " + what);
  XLA_FFI_Error_Create_Args args{};
  args.struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE;
  args.message = message.c_str();
  args.errc = code;
  return api->XLA_FFI_Error_Create(&args);
}

// When a handler is registered, XLA asks which version of its API the handler was compiled with.
inline bool answer_metadata(XLA_FFI_CallFrame* frame) {
  if (frame->extension_start == nullptr || frame->extension_start->type != XLA_FFI_Extension_Metadata) return false;
  auto* metadata = reinterpret_cast<XLA_FFI_Metadata_Extension*>(frame->extension_start)->metadata;
  metadata->api_version.struct_size = XLA_FFI_Api_Version_STRUCT_SIZE;
  metadata->api_version.extension_start = nullptr;
  metadata->api_version.major_version = kApiMajor;
  metadata->api_version.minor_version = kApiMinor;
  metadata->traits = 0;
  metadata->state_type_id = XLA_FFI_UNKNOWN_TYPE_ID;
  return true;
}

// What the exception that is being handled says. Anything may be thrown.
inline std::string thrown() {
  try {
    throw;
  } catch (const std::exception& error) {
    return error.what();
  } catch (const std::string& text) {
    return text;
  } catch (const char* text) {
    return text == nullptr ? "the kernel threw a null pointer" : text;
  } catch (long long code) {
    return "the kernel threw " + std::to_string(code);
  } catch (long code) {
    return "the kernel threw " + std::to_string(code);
  } catch (int code) {
    return "the kernel threw " + std::to_string(code);
  } catch (...) {
#ifdef _MSC_VER
    return "the kernel threw something that is no exception of the standard library";
#else
    const std::type_info* type = abi::__cxa_current_exception_type();
    if (type == nullptr) return "the kernel threw";
    int status = 0;
    char* name = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
    const std::string found = std::string("the kernel threw a ") + (status == 0 ? name : type->name());
    std::free(name);
    return found;
#endif
  }
}

template <class Body>
XLA_FFI_Error* guarded(const char* name, XLA_FFI_CallFrame* frame, Body body) {
  try {
    body();
    return nullptr;
  } catch (const Refused& error) {
    return make_error(frame->api, name, error.what(), error.code);
  } catch (...) {
    return make_error(frame->api, name, thrown());
  }
}

// Run the handler of a function that stands in the same source.
template <class Body>
XLA_FFI_Error* handle(const char* name, Meaning meaning, XLA_FFI_CallFrame* frame, Body body) {
  if (answer_metadata(frame)) return nullptr;
  return guarded(name, frame, [&] { body(Call(meaning, frame)); });
}

// Run the handler of a function that is known by its address, which the table has under the key in the program.
template <class Body>
XLA_FFI_Error* handle_entry(const Table& table, int64_t key, int64_t name, XLA_FFI_CallFrame* frame, Body body) {
  if (answer_metadata(frame)) return nullptr;
  std::string said = "c_function";
  const Entry* entry = nullptr;
  XLA_FFI_Error* error = guarded(said.c_str(), frame, [&] {
    const Call call(meaning_of_entry, frame);
    entry = table.find(call.attribute<int64_t>(key, "jaxprim_function", XLA_FFI_DataType_S64));
    if (entry == nullptr) said = call.text(name, "jaxprim_name");
  });
  if (error != nullptr) return error;
  return guarded(entry == nullptr ? said.c_str() : entry->name.c_str(), frame, [&] {
    if (entry == nullptr)
      throw Refused("this process does not have the function that the program calls: make the same kernel of the same "
                    "function, and call its build()");
    body(Call(meaning_of_entry, frame, entry), *entry);
  });
}

}  // namespace jaxprim
