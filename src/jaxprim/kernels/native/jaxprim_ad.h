// Numbers that carry derivatives, for C++ functions that are templates of their number type.
//
//   Dual<T>              a value and its tangent; Dual<Dual<T>> for second derivatives
//   Dual<T, Vec<T, K>>   a value and K tangents
//   Rev<T>               a value and its place on a tape; T may be a Dual
//
// The functions of <cmath> are overloaded for them, in namespace std too, so that `std::exp(x)` in a template works as it
// stands. A qualified name sees only what is declared before it, so this header comes before the author's source. How a
// handler reads and writes such numbers is in jaxprim_jets.h.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#if defined(__GNUC__)
#define JAXPRIM_HIDDEN __attribute__((visibility("hidden")))  // no detour over the table of the dynamic linker
#define JAXPRIM_RARELY(CONDITION) __builtin_expect(!!(CONDITION), 0)
#define JAXPRIM_COLD __attribute__((noinline, cold))
#else
#define JAXPRIM_HIDDEN
#define JAXPRIM_RARELY(CONDITION) (CONDITION)
#define JAXPRIM_COLD
#endif

namespace jaxprim::ad {

template <class S>
using If = std::enable_if_t<std::is_arithmetic_v<S>, int>;

// A conversion to an integer is a step, whose derivative is 0. One to a floating-point number would lose the derivative.
template <class S, class N>
S converted(const N& x) {
  static_assert(!std::is_floating_point_v<S>,
                "jaxprim: this conversion loses the derivative: write T in its place, or jaxprim::ad::value(x) where the "
                "derivative is meant to end");
  return static_cast<S>(value(x));
}

// ------------------------------------------------------------------------------------------------------ forward numbers
// K tangents.
template <class T, int K>
struct Vec {
  T e[K];
  Vec() = default;
  constexpr Vec(int zero) : e{} {
    for (int k = 0; k < K; ++k) e[k] = T(zero);
  }
  friend Vec operator+(const Vec& a, const Vec& b) {
    Vec c;
    for (int k = 0; k < K; ++k) c.e[k] = a.e[k] + b.e[k];
    return c;
  }
  friend Vec operator-(const Vec& a, const Vec& b) {
    Vec c;
    for (int k = 0; k < K; ++k) c.e[k] = a.e[k] - b.e[k];
    return c;
  }
  friend Vec operator-(const Vec& a) {
    Vec c;
    for (int k = 0; k < K; ++k) c.e[k] = -a.e[k];
    return c;
  }
  friend Vec operator*(const T& s, const Vec& a) {
    Vec c;
    for (int k = 0; k < K; ++k) c.e[k] = s * a.e[k];
    return c;
  }
};

// x = v + d eps, with eps^2 = 0, so that f(x) = f(v) + f'(v) d eps.
template <class T, class D = T>
struct Dual {
  using Inner = T;
  T v;
  D d;
  Dual() = default;
  constexpr Dual(const T& value, const D& tangent) : v(value), d(tangent) {}
  template <class S, If<S> = 0>
  constexpr Dual(S s) : v(static_cast<T>(s)), d(0) {}
  template <class S, If<S> = 0>
  explicit operator S() const {
    return converted<S>(*this);
  }
};

// ------------------------------------------------------------------------------------------------------ reverse numbers
// What a recording saw that it cannot follow.
struct JAXPRIM_HIDDEN Strange {
  inline static std::atomic<bool> foreign{false}, stale{false};
};

// A number that differs between threads. An address of a thread-local variable would cost a call of a function.
inline const void* this_thread() {
#if defined(__GNUC__) && defined(__x86_64__) && defined(__linux__)
  const void* found;
  asm("movq %%fs:0, %0" : "=r"(found));
  return found;
#elif defined(__GNUC__) && defined(__aarch64__) && defined(__linux__)
  const void* found;
  asm("mrs %0, tpidr_el0" : "=r"(found));
  return found;
#else
  static thread_local char here;
  return &here;
#endif
}

template <class T> bool is_zero(const T& x);

// The operations of one recording. Operation i has the slopes pa, pb with respect to the numbers at the places a, b; place 0
// is that of all constants. The sweep goes from the last to the first: a_bar += pa * i_bar, b_bar += pb * i_bar.
//
// A recorded number has the mark of its recording, not the tape's address: a number that was kept from an earlier recording,
// or memory that was never written, has another mark than any recording of now.
template <class T>
class JAXPRIM_HIDDEN Tape {
 public:
  static Tape* of(uint32_t mark) { return all_[mark % kTapes]; }
  bool has(uint32_t mark) const { return mark == mark_; }
  bool is_of_this_thread() const { return owner_ == this_thread(); }

  uint32_t push(const T& pa, uint32_t a, const T& pb, uint32_t b) {
    if (JAXPRIM_RARELY(next_ == end_)) grow();
    *next_++ = Node{pa, pb, a, b};
    return ++count_;
  }

  // A new recording: its mark.
  uint32_t begin() {
    count_ = 0;
    if (blocks_.size() > kKept) {
      blocks_.resize(kKept);
      std::vector<T>().swap(bars_);
    }
    next_ = blocks_.empty() ? nullptr : blocks_[0].get();
    end_ = blocks_.empty() ? nullptr : next_ + kBlock;
    generation_ = generation_ + 1 < (1u << 22) ? generation_ + 1 : 1;
    return mark_ = generation_ * kTapes + slot_;
  }
  void ready() { bars_.assign(size_t(count_) + 1, T(0)); }
  T& bar(uint32_t place) { return bars_[place]; }
  uint32_t count() const { return count_; }

  void sweep() {
    T* const bars = bars_.data();
    for (uint32_t i = count_; i > 0;) {
      const uint32_t block = (i - 1) / kBlock, first = block * kBlock;
      const Node* const nodes = blocks_[block].get();
      for (; i > first; --i) {
        const T bar = bars[i];
        if (is_zero(bar)) continue;  // no weight, no contribution: not even of an infinite slope
        const Node& node = nodes[i - 1 - first];
        bars[node.a] = bars[node.a] + node.pa * bar;
        bars[node.b] = bars[node.b] + node.pb * bar;
      }
    }
  }

  static Tape& take() {
    std::lock_guard<std::mutex> guard(lock_);
    for (uint32_t slot = 0; slot < kTapes; ++slot) {
      if (all_[slot] == nullptr) all_[slot] = new Tape(slot);
      if (all_[slot]->owner_ != nullptr) continue;
      all_[slot]->owner_ = this_thread();
      return *all_[slot];
    }
    throw std::runtime_error("more than 1024 threads record a tape at the same time");
  }
  void give() {
    begin();  // frees what is not kept, and what was recorded has a mark of the past
    std::lock_guard<std::mutex> guard(lock_);
    owner_ = nullptr;
  }

 private:
  struct Node {
    T pa, pb;
    uint32_t a, b;
  };
  static constexpr uint32_t kTapes = 1024, kBlock = 1 << 14;
  static constexpr size_t kKept = (size_t(1) << 24) / (kBlock * sizeof(Node)) + 1;  // 16 MiB for the next call

  explicit Tape(uint32_t slot) : slot_(slot) {}
  JAXPRIM_COLD void grow() {
    if (count_ >= 0xffffffffu - kBlock) throw std::runtime_error("the tape is full: the function has 4e9 operations");
    const size_t block = count_ / kBlock;
    if (block == blocks_.size()) blocks_.emplace_back(new Node[kBlock]);
    next_ = blocks_[block].get();
    end_ = next_ + kBlock;
  }

  inline static Tape* all_[kTapes] = {};
  inline static std::mutex lock_;
  std::vector<std::unique_ptr<Node[]>> blocks_;
  std::vector<T> bars_;
  Node *next_ = nullptr, *end_ = nullptr;
  uint32_t count_ = 0, mark_ = 0, generation_ = 0;
  const uint32_t slot_;
  const void* owner_ = nullptr;
};

// It can be copied byte by byte, and all bytes 0 are the constant 0: memset, memcpy and memory of malloc work.
template <class T>
struct Rev {
  using Inner = T;
  T v;
  uint32_t place, mark;
  Rev() = default;
  constexpr Rev(const T& value, uint32_t place_, uint32_t mark_) : v(value), place(place_), mark(mark_) {}
  template <class S, If<S> = 0>
  constexpr Rev(S s) : v(static_cast<T>(s)), place(0), mark(0) {}
  template <class S, If<S> = 0>
  explicit operator S() const {
    return converted<S>(*this);
  }
};

// ------------------------------------------------------------------------------------------ what both kinds have in common
template <class S, If<S> = 0> constexpr S value(S s) { return s; }
template <class T, class D> constexpr auto value(const Dual<T, D>& x) { return value(x.v); }
template <class T> constexpr auto value(const Rev<T>& x) { return value(x.v); }

template <class N> struct IsNumber : std::false_type {};
template <class T, class D> struct IsNumber<Dual<T, D>> : std::true_type {};
template <class T> struct IsNumber<Rev<T>> : std::true_type {};
template <class N> using IfN = std::enable_if_t<IsNumber<N>::value, int>;

template <class T, int K> bool is_zero(const Vec<T, K>& x) {
  for (int k = 0; k < K; ++k)
    if (!is_zero(x.e[k])) return false;
  return true;
}
template <class T, class D> bool is_zero(const Dual<T, D>& x) { return is_zero(x.v) && is_zero(x.d); }
template <class T> bool is_zero(const T& x) { return x == T(0); }

// Whether a number is the same whatever the operands are.
template <class T, class D> bool is_constant(const Dual<T, D>& x) { return is_zero(x.d); }
template <class T> bool is_constant(const Rev<T>& x) { return x.place == 0; }

template <class T>
JAXPRIM_COLD Rev<T> strange(const T& v, const Tape<T>* tape, uint32_t mark) {
  (tape != nullptr && tape->has(mark) ? Strange::foreign : Strange::stale) = true;
  return {v, 0, 0};
}
template <class T>
inline Rev<T> record(const T& v, uint32_t mark, const T& pa, uint32_t a, const T& pb, uint32_t b) {
  Tape<T>* const tape = Tape<T>::of(mark);
  if (JAXPRIM_RARELY(tape == nullptr || !tape->has(mark) || !tape->is_of_this_thread())) return strange(v, tape, mark);
  return {v, tape->push(pa, a, pb, b), mark};
}

// p * d where p may be infinite: no tangent times any slope is none, as in the sweep of a tape.
template <class T> inline T along(const T& p, const T& d) { return is_zero(d) ? T(0) : p * d; }
template <class T, int K> inline Vec<T, K> along(const T& p, const Vec<T, K>& d) {
  Vec<T, K> c;
  for (int k = 0; k < K; ++k) c.e[k] = along(p, d.e[k]);
  return c;
}

// The chain rule: the number with the value v, and the slope p with respect to x (and q with respect to y).
template <class T, class D> inline Dual<T, D> chain(const T& v, const Dual<T, D>& x, const T& p) {
  return {v, along(p, x.d)};
}
template <class T, class D>
inline Dual<T, D> chain(const T& v, const Dual<T, D>& x, const T& p, const Dual<T, D>& y, const T& q) {
  return {v, along(p, x.d) + along(q, y.d)};
}
template <class T> inline Rev<T> chain(const T& v, const Rev<T>& x, const T& p) {
  return x.place != 0 ? record(v, x.mark, p, x.place, T(0), 0) : Rev<T>(v, 0, 0);
}
template <class T> inline Rev<T> chain(const T& v, const Rev<T>& x, const T& p, const Rev<T>& y, const T& q) {
  if (x.place == 0) return chain(v, y, q);
  if (y.place == 0) return chain(v, x, p);
  if (JAXPRIM_RARELY(x.mark != y.mark)) return strange(v, static_cast<Tape<T>*>(nullptr), 0);
  return record(v, x.mark, p, x.place, q, y.place);
}

// ------------------------------------------------------------------------------------------------------------ operators
#define JAXPRIM_AD_COMPARE(OP)                                                                                           \
  template <class N, IfN<N> = 0> inline bool operator OP(const N& a, const N& b) { return value(a) OP value(b); }        \
  template <class N, class S, IfN<N> = 0, If<S> = 0> inline bool operator OP(const N& a, S b) { return value(a) OP b; } \
  template <class N, class S, IfN<N> = 0, If<S> = 0> inline bool operator OP(S a, const N& b) { return a OP value(b); }
JAXPRIM_AD_COMPARE(<) JAXPRIM_AD_COMPARE(>) JAXPRIM_AD_COMPARE(<=) JAXPRIM_AD_COMPARE(>=)
JAXPRIM_AD_COMPARE(==) JAXPRIM_AD_COMPARE(!=)
#undef JAXPRIM_AD_COMPARE
template <class N, IfN<N> = 0> inline bool operator!(const N& a) { return value(a) == 0; }
template <class N, IfN<N> = 0> inline N operator+(const N& x) { return x; }

template <class T, class D> inline Dual<T, D> operator-(const Dual<T, D>& x) { return {-x.v, -x.d}; }
template <class T, class D> inline Dual<T, D> operator+(const Dual<T, D>& a, const Dual<T, D>& b) {
  return {a.v + b.v, a.d + b.d};
}
template <class T, class D> inline Dual<T, D> operator-(const Dual<T, D>& a, const Dual<T, D>& b) {
  return {a.v - b.v, a.d - b.d};
}
template <class T, class D> inline Dual<T, D> operator*(const Dual<T, D>& a, const Dual<T, D>& b) {
  return {a.v * b.v, b.v * a.d + a.v * b.d};
}
template <class T, class D> inline Dual<T, D> operator/(const Dual<T, D>& a, const Dual<T, D>& b) {
  const T q = a.v / b.v, r = T(1) / b.v;
  return {q, r * (a.d - q * b.d)};
}
// With a constant, which has no tangent.
template <class T, class D, class S, If<S> = 0> inline Dual<T, D> operator+(const Dual<T, D>& a, S s) { return {a.v + T(s), a.d}; }
template <class T, class D, class S, If<S> = 0> inline Dual<T, D> operator+(S s, const Dual<T, D>& a) { return {T(s) + a.v, a.d}; }
template <class T, class D, class S, If<S> = 0> inline Dual<T, D> operator-(const Dual<T, D>& a, S s) { return {a.v - T(s), a.d}; }
template <class T, class D, class S, If<S> = 0> inline Dual<T, D> operator-(S s, const Dual<T, D>& a) { return {T(s) - a.v, -a.d}; }
template <class T, class D, class S, If<S> = 0> inline Dual<T, D> operator*(const Dual<T, D>& a, S s) { return {a.v * T(s), T(s) * a.d}; }
template <class T, class D, class S, If<S> = 0> inline Dual<T, D> operator*(S s, const Dual<T, D>& a) { return {T(s) * a.v, T(s) * a.d}; }
template <class T, class D, class S, If<S> = 0> inline Dual<T, D> operator/(const Dual<T, D>& a, S s) {
  return {a.v / T(s), T(1) / T(s) * a.d};
}
template <class T, class D, class S, If<S> = 0> inline Dual<T, D> operator/(S s, const Dual<T, D>& a) {
  const T q = T(s) / a.v;
  return {q, -(q / a.v) * a.d};
}

template <class T> inline Rev<T> operator-(const Rev<T>& x) { return chain<T>(-x.v, x, T(-1)); }
template <class T> inline Rev<T> operator+(const Rev<T>& a, const Rev<T>& b) { return chain<T>(a.v + b.v, a, T(1), b, T(1)); }
template <class T> inline Rev<T> operator-(const Rev<T>& a, const Rev<T>& b) { return chain<T>(a.v - b.v, a, T(1), b, T(-1)); }
template <class T> inline Rev<T> operator*(const Rev<T>& a, const Rev<T>& b) { return chain<T>(a.v * b.v, a, b.v, b, a.v); }
template <class T> inline Rev<T> operator/(const Rev<T>& a, const Rev<T>& b) {
  const T q = a.v / b.v, r = T(1) / b.v;
  return chain<T>(q, a, r, b, -(q * r));
}
template <class T, class S, If<S> = 0> inline Rev<T> operator+(const Rev<T>& a, S s) { return chain<T>(a.v + T(s), a, T(1)); }
template <class T, class S, If<S> = 0> inline Rev<T> operator+(S s, const Rev<T>& a) { return chain<T>(T(s) + a.v, a, T(1)); }
template <class T, class S, If<S> = 0> inline Rev<T> operator-(const Rev<T>& a, S s) { return chain<T>(a.v - T(s), a, T(1)); }
template <class T, class S, If<S> = 0> inline Rev<T> operator-(S s, const Rev<T>& a) { return chain<T>(T(s) - a.v, a, T(-1)); }
template <class T, class S, If<S> = 0> inline Rev<T> operator*(const Rev<T>& a, S s) { return chain<T>(a.v * T(s), a, T(s)); }
template <class T, class S, If<S> = 0> inline Rev<T> operator*(S s, const Rev<T>& a) { return chain<T>(T(s) * a.v, a, T(s)); }
template <class T, class S, If<S> = 0> inline Rev<T> operator/(const Rev<T>& a, S s) { return chain<T>(a.v / T(s), a, T(1) / T(s)); }
template <class T, class S, If<S> = 0> inline Rev<T> operator/(S s, const Rev<T>& a) {
  const T q = T(s) / a.v;
  return chain<T>(q, a, -(q / a.v));
}

#define JAXPRIM_AD_ASSIGN(OP)                                                                      \
  template <class N, IfN<N> = 0> inline N& operator OP##=(N& a, const N& b) { return a = a OP b; } \
  template <class N, class S, IfN<N> = 0, If<S> = 0> inline N& operator OP##=(N& a, S b) { return a = a OP b; }
JAXPRIM_AD_ASSIGN(+) JAXPRIM_AD_ASSIGN(-) JAXPRIM_AD_ASSIGN(*) JAXPRIM_AD_ASSIGN(/)
#undef JAXPRIM_AD_ASSIGN
template <class N, IfN<N> = 0> inline N& operator++(N& a) { return a = a + 1; }
template <class N, IfN<N> = 0> inline N& operator--(N& a) { return a = a - 1; }
template <class N, IfN<N> = 0> inline N operator++(N& a, int) { const N before = a; a = a + 1; return before; }
template <class N, IfN<N> = 0> inline N operator--(N& a, int) { const N before = a; a = a - 1; return before; }
// As text a number is its value.
template <class Stream, class N, IfN<N> = 0> inline Stream& operator<<(Stream& out, const N& x) { out << value(x); return out; }
template <class N, IfN<N> = 0> inline std::string to_string(const N& x) { return std::to_string(value(x)); }

}  // namespace jaxprim::ad

#include "jaxprim_ad_math.h"
