// The functions of <cmath> for the numbers of jaxprim_ad.h, each with its derivative.
//
// A derivative is written in numbers of one order less, so every order follows from it.
#pragma once

#include "jaxprim_ad.h"

namespace jaxprim::ad {

// Declared before any of them is defined, since the derivative of one is often another.
#define JAXPRIM_AD_SMOOTH(X)                                                                                      \
  X(sqrt) X(cbrt) X(exp) X(exp2) X(expm1) X(log) X(log2) X(log10) X(log1p) X(sin) X(cos) X(tan) X(asin) X(acos)   \
  X(atan) X(sinh) X(cosh) X(tanh) X(asinh) X(acosh) X(atanh) X(erf) X(erfc) X(lgamma) X(tgamma) X(fabs)
#define JAXPRIM_AD_PAIRS(X) \
  X(atan2) X(hypot) X(fmod) X(remainder) X(fmax) X(fmin) X(copysign) X(fdim) X(pow) X(nextafter)
#define JAXPRIM_AD_DECLARE(NAME) template <class N, IfN<N> = 0> inline N NAME(const N& x);
JAXPRIM_AD_SMOOTH(JAXPRIM_AD_DECLARE)
#undef JAXPRIM_AD_DECLARE
#define JAXPRIM_AD_DECLARE(NAME)                                                    \
  template <class N, IfN<N> = 0> inline N NAME(const N& x, const N& y);             \
  template <class N, class S, IfN<N> = 0, If<S> = 0> inline N NAME(const N& x, S s); \
  template <class N, class S, IfN<N> = 0, If<S> = 0> inline N NAME(S s, const N& x);
JAXPRIM_AD_PAIRS(JAXPRIM_AD_DECLARE)
#undef JAXPRIM_AD_DECLARE

// psi(x) = lgamma'(x), by psi(x) = psi(x + 1) - 1 / x up to 10, and then its asymptotic series. Left of 0 by reflection:
// psi(x) = psi(1 - x) - pi / tan(pi x).
template <class T> inline T digamma(T x) {
  using std::log, std::tan;
  constexpr double kPi = 3.14159265358979323846;
  if (value(x) <= 0) return digamma(T(T(1) - x)) - T(kPi) / tan(T(T(kPi) * x));
  T sum(0);
  for (; value(x) < 10; x = x + T(1)) sum = sum - T(1) / x;
  const T r = T(1) / x, s = r * r;
  return sum + log(x) - T(0.5) * r -
         s * (T(1. / 12) -
              s * (T(1. / 120) - s * (T(1. / 252) - s * (T(1. / 240) - s * (T(1. / 132) - s * T(691. / 32760))))));
}

// y = NAME(x): DERIVATIVE is dy/dx, of a and y, the value and the result in one order less.
#define JAXPRIM_AD_FUNCTION(NAME, DERIVATIVE)                                                                        \
  template <class N, IfN<N>> inline N NAME(const N& x) {                                                             \
    using T = typename N::Inner;                                                                                     \
    using std::NAME, std::cos, std::sin, std::sinh, std::cosh, std::exp, std::sqrt;                                  \
    const T a = x.v, y = NAME(a);                                                                                    \
    (void)a, (void)y;                                                                                                \
    return chain(y, x, T(DERIVATIVE));                                                                               \
  }                                                                                                                  \
  template <class N, IfN<N> = 0> inline N NAME##f(const N& x) { return NAME(x); }
JAXPRIM_AD_FUNCTION(sqrt, T(0.5) / y)
JAXPRIM_AD_FUNCTION(cbrt, T(1) / (T(3) * y * y))
JAXPRIM_AD_FUNCTION(exp, y)
JAXPRIM_AD_FUNCTION(exp2, y * T(0.69314718055994530942))
JAXPRIM_AD_FUNCTION(expm1, y + T(1))
JAXPRIM_AD_FUNCTION(log, T(1) / a)
JAXPRIM_AD_FUNCTION(log2, T(1.44269504088896340736) / a)
JAXPRIM_AD_FUNCTION(log10, T(0.43429448190325182765) / a)
JAXPRIM_AD_FUNCTION(log1p, T(1) / (T(1) + a))
JAXPRIM_AD_FUNCTION(sin, cos(a))
JAXPRIM_AD_FUNCTION(cos, -sin(a))
JAXPRIM_AD_FUNCTION(tan, T(1) + y * y)
JAXPRIM_AD_FUNCTION(asin, T(1) / sqrt(T((T(1) - a) * (T(1) + a))))
JAXPRIM_AD_FUNCTION(acos, T(-1) / sqrt(T((T(1) - a) * (T(1) + a))))
JAXPRIM_AD_FUNCTION(atan, T(1) / (T(1) + a * a))
JAXPRIM_AD_FUNCTION(sinh, cosh(a))
JAXPRIM_AD_FUNCTION(cosh, sinh(a))
JAXPRIM_AD_FUNCTION(tanh, T(1) - y * y)
JAXPRIM_AD_FUNCTION(asinh, T(1) / sqrt(T(a * a + T(1))))
JAXPRIM_AD_FUNCTION(acosh, T(1) / sqrt(T((a - T(1)) * (a + T(1)))))
JAXPRIM_AD_FUNCTION(atanh, T(1) / ((T(1) - a) * (T(1) + a)))
JAXPRIM_AD_FUNCTION(erf, T(1.12837916709551257390) * exp(T(-(a * a))))
JAXPRIM_AD_FUNCTION(erfc, T(-1.12837916709551257390) * exp(T(-(a * a))))
JAXPRIM_AD_FUNCTION(lgamma, digamma(a))
JAXPRIM_AD_FUNCTION(tgamma, y * digamma(a))
JAXPRIM_AD_FUNCTION(fabs, T((value(a) > 0) - (value(a) < 0)))  // 0 at 0, as in JAX
#undef JAXPRIM_AD_FUNCTION
template <class N, IfN<N> = 0> inline N abs(const N& x) { return fabs(x); }

// Steps: their derivative is 0.
#define JAXPRIM_AD_STEPS(X) X(floor) X(ceil) X(trunc) X(round) X(rint) X(nearbyint) X(logb)
#define JAXPRIM_AD_STEP(NAME)                                                                 \
  template <class N, IfN<N> = 0> inline N NAME(const N& x) { return N(std::NAME(value(x))); } \
  template <class N, IfN<N> = 0> inline N NAME##f(const N& x) { return N(std::NAME(value(x))); }
JAXPRIM_AD_STEPS(JAXPRIM_AD_STEP)
#undef JAXPRIM_AD_STEP

// Questions about a value.
#define JAXPRIM_AD_QUESTIONS(X) \
  X(isnan) X(isinf) X(isfinite) X(isnormal) X(signbit) X(fpclassify) X(lround) X(llround) X(lrint) X(llrint) X(ilogb)
#define JAXPRIM_AD_QUESTION(NAME) \
  template <class N, IfN<N> = 0> inline auto NAME(const N& x) { return std::NAME(value(x)); }
JAXPRIM_AD_QUESTIONS(JAXPRIM_AD_QUESTION)
#undef JAXPRIM_AD_QUESTION

// -------------------------------------------------------------------------------------------------------- of two numbers
// z = NAME(x, y): P is dz/dx and Q is dz/dy, of the values a and b.
#define JAXPRIM_AD_FUNCTION(NAME, P, Q)                             \
  template <class N, IfN<N>> inline N NAME(const N& x, const N& y) { \
    using T = typename N::Inner;                                    \
    using std::NAME;                                                \
    const T a = x.v, b = y.v, z = NAME(a, b);                       \
    (void)a, (void)b, (void)z;                                      \
    return chain(z, x, T(P), y, T(Q));                              \
  }
JAXPRIM_AD_FUNCTION(atan2, b / (a * a + b * b), -a / (a * a + b * b))
JAXPRIM_AD_FUNCTION(hypot, value(z) == 0 ? T(0) : a / z, value(z) == 0 ? T(0) : b / z)
// x = z + k y with the integer k, which is a step.
JAXPRIM_AD_FUNCTION(fmod, T(1), -std::rint((value(a) - value(z)) / value(b)))
JAXPRIM_AD_FUNCTION(remainder, T(1), -std::rint((value(a) - value(z)) / value(b)))
#undef JAXPRIM_AD_FUNCTION

template <class N, IfN<N>> inline N fmax(const N& x, const N& y) { return value(y) > value(x) || isnan(x) ? y : x; }
template <class N, IfN<N>> inline N fmin(const N& x, const N& y) { return value(y) < value(x) || isnan(x) ? y : x; }
template <class N, IfN<N>> inline N copysign(const N& x, const N& y) { return signbit(x) == signbit(y) ? x : -x; }
template <class N, IfN<N>> inline N fdim(const N& x, const N& y) { return value(x) > value(y) ? x - y : N(0); }
template <class N, IfN<N>> inline N nextafter(const N& x, const N& y) {
  return chain(typename N::Inner(std::nextafter(value(x), value(y))), x, typename N::Inner(1));
}
// x^y: d/dx = y x^(y - 1), d/dy = x^y log x. At x = 0 the second is 0 for y > 0, and for x < 0 it is none: a NaN.
template <class N, IfN<N>> inline N pow(const N& x, const N& y) {
  using T = typename N::Inner;
  using std::pow, std::log;
  const T a = x.v, b = y.v, z = pow(a, b);
  const T p = is_zero(b) ? T(0) : T(b * pow(a, T(b - T(1))));
  if (is_constant(y)) return chain(z, x, p);
  const auto none = std::numeric_limits<decltype(value(x))>::quiet_NaN();
  return chain(z, x, p, y, value(a) > 0 ? T(z * log(a)) : T(value(a) == 0 && value(b) > 0 ? 0 : none));
}

// One of the two is a plain number.
#define JAXPRIM_AD_MIXED(NAME)                                                                              \
  template <class N, class S, IfN<N>, If<S>> inline N NAME(const N& x, S s) { return NAME(x, N(s)); }       \
  template <class N, class S, IfN<N>, If<S>> inline N NAME(S s, const N& x) { return NAME(N(s), x); }
JAXPRIM_AD_MIXED(atan2) JAXPRIM_AD_MIXED(hypot) JAXPRIM_AD_MIXED(fmod) JAXPRIM_AD_MIXED(remainder)
JAXPRIM_AD_MIXED(fmax) JAXPRIM_AD_MIXED(fmin) JAXPRIM_AD_MIXED(copysign) JAXPRIM_AD_MIXED(fdim) JAXPRIM_AD_MIXED(nextafter)
#undef JAXPRIM_AD_MIXED
// x^s: integers stay integers, so that a negative x is taken as it is, and x^0 = 1 has the derivative 0 also at 0.
template <class N, class S, IfN<N>, If<S>> inline N pow(const N& x, S s) {
  using T = typename N::Inner;
  using std::pow;
  if (s == S(0)) return N(1);
  if (s == S(1)) return x;
  if (s == S(2)) return x * x;
  return chain(T(pow(x.v, s)), x, T(T(s) * T(pow(x.v, static_cast<std::common_type_t<S, int>>(s) - 1))));
}
template <class N, class S, IfN<N>, If<S>> inline N pow(S s, const N& x) {
  using T = typename N::Inner;
  using std::pow;
  using R = decltype(value(x));
  const T z = T(pow(static_cast<R>(s), x.v));
  const R slope = s > S(0) ? std::log(static_cast<R>(s))
                  : s == S(0) && value(x) > 0 ? R(0) : std::numeric_limits<R>::quiet_NaN();
  return chain(z, x, T(z * T(slope)));
}

#define JAXPRIM_AD_COMPARE(NAME)                                                                                             \
  template <class N, IfN<N> = 0> inline bool NAME(const N& x, const N& y) { return std::NAME(value(x), value(y)); }          \
  template <class N, class S, IfN<N> = 0, If<S> = 0> inline bool NAME(const N& x, S s) { return std::NAME(value(x), s); }    \
  template <class N, class S, IfN<N> = 0, If<S> = 0> inline bool NAME(S s, const N& x) { return std::NAME(s, value(x)); }
#define JAXPRIM_AD_COMPARISONS(X) \
  X(isgreater) X(isgreaterequal) X(isless) X(islessequal) X(islessgreater) X(isunordered)
JAXPRIM_AD_COMPARISONS(JAXPRIM_AD_COMPARE)
#undef JAXPRIM_AD_COMPARE

// ------------------------------------------------------------------------------------------------------------ the others
template <class N, class S, class U> using IfAny = std::enable_if_t<
    IsNumber<std::common_type_t<N, S, U>>::value, std::common_type_t<N, S, U>>;
template <class A, class B, class C> inline IfAny<A, B, C> fma(const A& x, const B& y, const C& z) { return x * y + z; }
template <class A, class B, class C> inline IfAny<A, B, C> hypot(const A& x, const B& y, const C& z) {
  using N = IfAny<A, B, C>;
  return hypot(hypot(N(x), N(y)), N(z));
}
template <class N, IfN<N> = 0> inline N ldexp(const N& x, int e) { return x * std::ldexp(decltype(value(x))(1), e); }
template <class N, IfN<N> = 0> inline N scalbn(const N& x, int e) { return ldexp(x, e); }
template <class N, IfN<N> = 0> inline N scalbln(const N& x, long e) { return x * std::scalbln(decltype(value(x))(1), e); }
template <class N, IfN<N> = 0> inline N frexp(const N& x, int* e) {
  (void)std::frexp(value(x), e);
  return ldexp(x, -*e);
}
template <class N, IfN<N> = 0> inline N modf(const N& x, N* whole) { *whole = trunc(x); return x - *whole; }
template <class N, IfN<N> = 0> inline N remquo(const N& x, const N& y, int* quotient) {
  (void)std::remquo(value(x), value(y), quotient);
  return remainder(x, y);
}
// std::max and std::min of a number and a plain one, which std's own do not take. A tie takes the first, as they do.
template <class N, class S, IfN<N> = 0, If<S> = 0> inline N max(const N& x, S s) { return x < s ? N(s) : x; }
template <class N, class S, IfN<N> = 0, If<S> = 0> inline N max(S s, const N& x) { return s < x ? x : N(s); }
template <class N, class S, IfN<N> = 0, If<S> = 0> inline N min(const N& x, S s) { return s < x ? N(s) : x; }
template <class N, class S, IfN<N> = 0, If<S> = 0> inline N min(S s, const N& x) { return x < s ? x : N(s); }
template <class N, class S, class U, IfN<N> = 0, If<S> = 0, If<U> = 0> inline N clamp(const N& x, S low, U high) {
  return x < low ? N(low) : high < x ? N(high) : x;
}

}  // namespace jaxprim::ad

// So that `std::exp(x)` works in a template whose author never heard of these numbers. The C++ standard reserves this; every
// compiler takes it.
namespace std {
#define JAXPRIM_AD_USE(NAME) using jaxprim::ad::NAME;
JAXPRIM_AD_SMOOTH(JAXPRIM_AD_USE) JAXPRIM_AD_PAIRS(JAXPRIM_AD_USE) JAXPRIM_AD_STEPS(JAXPRIM_AD_USE)
JAXPRIM_AD_QUESTIONS(JAXPRIM_AD_USE) JAXPRIM_AD_COMPARISONS(JAXPRIM_AD_USE)
using jaxprim::ad::abs; using jaxprim::ad::clamp; using jaxprim::ad::fma; using jaxprim::ad::frexp; using jaxprim::ad::ldexp;
using jaxprim::ad::max; using jaxprim::ad::min; using jaxprim::ad::modf; using jaxprim::ad::remquo;
using jaxprim::ad::scalbln; using jaxprim::ad::scalbn; using jaxprim::ad::to_string;
#undef JAXPRIM_AD_USE
template <class T, class D> struct numeric_limits<jaxprim::ad::Dual<T, D>> : numeric_limits<T> {};
template <class T> struct numeric_limits<jaxprim::ad::Rev<T>> : numeric_limits<T> {};
// What arithmetic of a number with a plain one gives.
template <class T, class D, class S> struct common_type<jaxprim::ad::Dual<T, D>, S> { using type = jaxprim::ad::Dual<T, D>; };
template <class T, class D, class S> struct common_type<S, jaxprim::ad::Dual<T, D>> { using type = jaxprim::ad::Dual<T, D>; };
template <class T, class D> struct common_type<jaxprim::ad::Dual<T, D>, jaxprim::ad::Dual<T, D>> { using type = jaxprim::ad::Dual<T, D>; };
template <class T, class S> struct common_type<jaxprim::ad::Rev<T>, S> { using type = jaxprim::ad::Rev<T>; };
template <class T, class S> struct common_type<S, jaxprim::ad::Rev<T>> { using type = jaxprim::ad::Rev<T>; };
template <class T> struct common_type<jaxprim::ad::Rev<T>, jaxprim::ad::Rev<T>> { using type = jaxprim::ad::Rev<T>; };
}  // namespace std
