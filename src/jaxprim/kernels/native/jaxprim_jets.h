// How a generated handler runs an author's template with numbers that carry derivatives.
//
// A number of order m has 2^m components, numbered by bit masks: Dual<Dual<T>> is x0 + x1 a + x2 b + x3 a b, with
// a^2 = b^2 = 0. XLA gives one array for each component of each operand, or none where the component is 0 everywhere.
#pragma once

#include <array>
#include <tuple>
#include <utility>

#include "jaxprim_ad.h"
#include "jaxprim_kernel.h"

namespace jaxprim::ad {

// One component of the operand, or of the result, of an element. Lane k of it is k steps further.
template <class R>
struct In {
  const R* data;  // nullptr: all zeros
  int64_t step;
};
template <class R>
struct Out {
  R* data;
  int64_t step;
  bool adds;  // it is a sum over elements
  void put(int64_t i, R number) const {
    if (adds) data[i] += number;
    else data[i] = number;
  }
};

// Reads and writes the components of numbers. `live` is the number of lanes in use.
template <class T>
struct Jet {
  static constexpr int size = 1;
  static T load(const In<T>* in, int64_t i, int64_t lane, int64_t) {
    return in->data == nullptr ? T(0) : in->data[i + lane * in->step];
  }
  static void store(const T& x, int, const Out<T>& out, int64_t i, int64_t lane, int64_t) {
    out.put(i + lane * out.step, x);
  }
};
template <class T>
struct Jet<Dual<T, T>> {
  static constexpr int half = Jet<T>::size, size = 2 * half;
  template <class R>
  static Dual<T, T> load(const In<R>* in, int64_t i, int64_t lane, int64_t live) {
    return {Jet<T>::load(in, i, lane, live), Jet<T>::load(in + half, i, lane, live)};
  }
  template <class R>
  static void store(const Dual<T, T>& x, int s, const Out<R>& out, int64_t i, int64_t lane, int64_t live) {
    Jet<T>::store(s < half ? x.v : x.d, s % half, out, i, lane, live);
  }
};
// The components without the highest bit are the same in all lanes.
template <class T, int K>
struct Jet<Dual<T, Vec<T, K>>> {
  static constexpr int half = Jet<T>::size, size = 2 * half;
  template <class R>
  static Dual<T, Vec<T, K>> load(const In<R>* in, int64_t i, int64_t, int64_t live) {
    Dual<T, Vec<T, K>> x;
    x.v = Jet<T>::load(in, i, 0, live);
    for (int k = 0; k < K; ++k) x.d.e[k] = k < live ? Jet<T>::load(in + half, i, k, live) : T(0);
    return x;
  }
  template <class R>
  static void store(const Dual<T, Vec<T, K>>& x, int s, const Out<R>& out, int64_t i, int64_t, int64_t live) {
    for (int k = 0; k < live; ++k) Jet<T>::store(s < half ? x.v : x.d.e[k], s % half, out, i, k, live);
  }
};

// Memory for n numbers. A few of them stand on the stack.
template <class N>
class Array {
 public:
  explicit Array(int64_t n)
      : size_(n), data_(n <= kFew ? reinterpret_cast<N*>(few_) : static_cast<N*>(std::malloc(n * sizeof(N)))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Array() {
    if (data_ != reinterpret_cast<N*>(few_)) std::free(data_);
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  int64_t size() const { return size_; }
  N* data() { return data_; }
  const N* data() const { return data_; }
  N& operator[](int64_t i) { return data_[i]; }
  const N& operator[](int64_t i) const { return data_[i]; }

  // All bits set: a NaN that no arithmetic makes. A number that still has it was never written.
  void spoil() { std::memset(static_cast<void*>(data_), 0xff, size_ * sizeof(N)); }
  void require_written(const char* name) const {
    for (int64_t i = 0; i < size_; ++i) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(data_ + i);
      size_t k = 0;
      while (k < sizeof(N) && bytes[k] == 0xff) ++k;
      if (k == sizeof(N))
        throw Refused(std::string("its derivative is unknown, as the function never wrote all of '") + name + "'");
    }
  }

 private:
  static constexpr int64_t kFew = 32;
  alignas(N) unsigned char few_[kFew * sizeof(N)];
  const int64_t size_;
  N* const data_;
};

template <class N, class R, size_t C>
void load(Array<N>& to, const std::array<In<R>, C>& in, int64_t live) {
  for (int64_t i = 0; i < to.size(); ++i) to[i] = Jet<N>::load(in.data(), i, 0, live);
}
template <class N, class R>
void store(const Array<N>& from, int component, const Out<R>& out, int64_t live) {
  for (int64_t i = 0; i < from.size(); ++i) Jet<N>::store(from[i], component, out, i, 0, live);
}

// Call the author's function with its real attributes as they are, or as numbers N where it wants its own type. The bits of
// the mask say which are N.
template <int mask, size_t i, class N, class S>
auto as_taken(const S& attribute) {
  if constexpr ((mask >> i & 1) != 0) return N(attribute);
  else return attribute;
}
template <class N, int mask, class Function, size_t... i, class... S>
decltype(auto) call_with(std::index_sequence<i...> places, const Function& function, const S&... attributes) {
  if constexpr (std::is_invocable_v<const Function&, decltype(as_taken<mask, i, N>(attributes))...>) {
    return function(as_taken<mask, i, N>(attributes)...);
  } else {
    constexpr bool is_last = mask + 1 >= (1 << sizeof...(S));
    static_assert(!is_last, "jaxprim: the function is no template of its number type");
    if constexpr (!is_last) return call_with<N, mask + 1>(places, function, attributes...);
  }
}
template <class N, class Function, class... S>
decltype(auto) call(const Function& function, const S&... attributes) {
  return call_with<N, 0>(std::index_sequence_for<S...>{}, function, attributes...);
}

// --------------------------------------------------------------------------------------------------------------- reverse
// The pullback by a tape: for y = f(x), x_bar = f'(x)^T y_bar. One recording for each element.
template <class T>
class JAXPRIM_HIDDEN Recorder {
 public:
  Recorder() : tape_(Tape<T>::take()) {}
  ~Recorder() { tape_.give(); }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  void begin() { mark_ = tape_.begin(); }
  // The place before that of the first of these operands, which move unless they are `still`.
  template <class R, size_t C>
  uint32_t enter(Array<Rev<T>>& x, const std::array<In<R>, C>& in, int64_t live, bool still) {
    const uint32_t before = tape_.count();
    for (int64_t i = 0; i < x.size(); ++i) {
      const T jet = Jet<T>::load(in.data(), i, 0, live);
      x[i] = still ? Rev<T>(jet, 0, 0) : Rev<T>(jet, tape_.push(T(0), 0, T(0), 0), mark_);
    }
    return before;
  }
  void end() {
    if (Strange::foreign.exchange(false))
      throw Refused("the function has threads of its own, which a tape cannot follow: its VJP must be written, or "
                    "differentiable='tangents'");
    refuse_stale(Strange::stale.exchange(false));
    tape_.ready();
  }
  template <class R, size_t C>
  void seed(const Array<Rev<T>>& y, const std::array<In<R>, C>& ct, int64_t live) {
    for (int64_t i = 0; i < y.size(); ++i) {
      if (y[i].place == 0) continue;
      refuse_stale(y[i].mark != mark_ || y[i].place > tape_.count());
      tape_.bar(y[i].place) = tape_.bar(y[i].place) + Jet<T>::load(ct.data(), i, 0, live);
    }
  }
  void sweep() { tape_.sweep(); }
  template <class R>
  void leave(uint32_t before, int64_t count, int component, const Out<R>& out, int64_t live) {
    for (int64_t i = 0; i < count; ++i)
      Jet<T>::store(tape_.bar(before + 1 + static_cast<uint32_t>(i)), component, out, i, 0, live);
  }

 private:
  static void refuse_stale(bool is_stale) {
    if (is_stale)
      throw Refused("its derivative is unknown, as a number of an earlier call, or memory that was never written, went "
                    "into this one: keep no numbers in static variables");
  }
  Tape<T>& tape_;
  uint32_t mark_ = 0;
};

// The pullback by K tangents at once, one for each number of the operands: x_bar_k = sum_i y_bar_i dy_i/dx_k.
template <class T, int K>
class Pulled {
 public:
  using Number = Dual<T, Vec<T, K>>;
  template <class R, size_t C>
  static void enter(Array<Number>& x, const std::array<In<R>, C>& in, int64_t live, bool still, int first) {
    for (int64_t i = 0; i < x.size(); ++i) {
      x[i].v = Jet<T>::load(in.data(), i, 0, live);
      x[i].d = Vec<T, K>(0);
      if (!still) x[i].d.e[first + i] = T(1);
    }
  }
  template <class R, size_t C>
  void add(const Array<Number>& y, const std::array<In<R>, C>& ct, int64_t live) {
    for (int64_t i = 0; i < y.size(); ++i) {
      const T weight = Jet<T>::load(ct.data(), i, 0, live);
      if (!is_zero(weight)) bar_ = bar_ + weight * y[i].d;
    }
  }
  template <class R>
  void leave(int first, int64_t count, int component, const Out<R>& out, int64_t live) const {
    for (int64_t i = 0; i < count; ++i) Jet<T>::store(bar_.e[first + i], component, out, i, 0, live);
  }

 private:
  Vec<T, K> bar_{0};
};

// -------------------------------------------------------------------------------------------- the loop over batch axes
// Up to K elements that differ in their tangents alone: the lanes of one run of the function.
template <int N>
struct Place {
  const Buffer (&buffers)[N];
  const bool (&adds)[N];
  const int64_t* at;
  const int64_t* steps;
  int64_t live;

  template <class R>
  const R* operand(int b) const {
    return buffers[b].template at<const R>(at[b]);
  }
  template <class R, int C>
  std::array<In<R>, C> in(int first, int64_t zeros) const {
    std::array<In<R>, C> found;
    for (int c = 0; c < C; ++c) {
      const int b = first + c;
      const bool is_zero = b < 63 && (zeros >> b & 1) != 0;
      found[c] = {is_zero ? nullptr : operand<R>(b), steps[b]};
    }
    return found;
  }
  template <class R>
  Out<R> out(int b) const {
    return {buffers[b].template at<R>(at[b]), steps[b], adds[b]};
  }
};

template <int N>
class Blocks : public Walk<N> {
 public:
  using Walk<N>::Walk;

  // Make an axis the innermost one along which the arrays of `shared` do not change; false if there is none.
  bool bring_inside(const bool (&shared)[N]) {
    for (int axis = 0; axis < this->axes_; ++axis) {
      bool fits = true;
      for (int b = 0; b < N; ++b) fits = fits && (!shared[b] || this->steps_[axis][b] == 0);
      if (!fits) continue;
      std::swap(this->sizes_[0], this->sizes_[axis]);
      std::swap(this->steps_[0], this->steps_[axis]);
      return true;
    }
    return false;
  }
  template <class Body>
  void run_blocks(int64_t begin, int64_t end, int64_t most, Body body) const {
    static constexpr int64_t kStay[N] = {};
    for (int64_t i = begin; i < end;) {
      int64_t at[N];
      this->locate(i, at);
      const int64_t live = std::min(std::min(most, end - i), this->left_in_row(i));
      body(at, this->axes_ == 0 ? kStay : this->steps_[0], live);
      i += live;
    }
  }
};

// Run `element(place, state)` for all positions of the batch axes. A result that has size 1 along one of them is a sum over
// it: each thread adds to memory of its own, and that is added up in a fixed order.
template <class R, class State, int K, int N, class Element>
void for_each_place(const Call& call, const Buffer (&buffers)[N], int operands, const bool (&shared)[N], int64_t threads,
                    Element element) {
  Blocks<N> walk(call, buffers);
  const int64_t most = K > 1 && walk.bring_inside(shared) ? K : 1;
  bool adds[N] = {}, has_sums = false;
  for (int b = operands; b < N; ++b) {
    adds[b] = buffers[b].positions() != walk.total();
    has_sums = has_sums || adds[b];
    if (adds[b]) std::fill_n(buffers[b].template at<R>(0), buffers[b].total(), R(0));
  }
  const int64_t workers = workers_for(call, walk.total(), threads);
  const int64_t chunks = workers < 2 ? 1 : has_sums ? workers : std::min(walk.total(), 4 * workers);
  std::vector<std::vector<R>> own(chunks * N);
  auto work = [&](int64_t chunk) {
    Buffer mine[N];
    std::copy(buffers, buffers + N, mine);
    for (int b = operands; b < N; ++b) {
      if (!adds[b] || chunk == 0) continue;
      std::vector<R>& memory = own[chunk * N + b];
      memory.assign(buffers[b].total(), R(0));
      mine[b].data = reinterpret_cast<char*>(memory.data());
    }
    State state;
    walk.run_blocks(walk.total() * chunk / chunks, walk.total() * (chunk + 1) / chunks, most,
                    [&](const int64_t* at, const int64_t* steps, int64_t live) {
                      element(Place<N>{mine, adds, at, steps, live}, state);
                    });
  };
  if (chunks == 1) work(0);
  else share(call, chunks, workers, work);
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int b = operands; b < N; ++b)
      for (size_t i = 0; i < own[chunk * N + b].size(); ++i) buffers[b].template at<R>(0)[i] += own[chunk * N + b][i];
}

struct Nothing {};

}  // namespace jaxprim::ad
