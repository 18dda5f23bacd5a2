"""The cache of set-ups under the sanitizers for addresses and for threads: ``python benchmarks/kernels/sanitize.py``.

Eight threads take, spoil, share, evict and forget set-ups, and a child process goes on with its own. A leak, a use after
free, a race, or two threads in one set-up fails.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from jaxprim.kernels.source import NATIVE

DRIVER = """
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <sys/wait.h>
#include "jaxprim_kept.h"

struct Order {
  int64_t n;
  explicit Order(int64_t n) : n(n) {}
};
struct Plan {
  const Order& order;
  const double* of;  // an operand, as the cache holds it
  std::vector<double> numbers;
  int users = 0;  // no atomic: two threads in one set-up are a race
  Plan(const Order& order, const double* x) : order(order), of(x), numbers(order.n, *x) {
    if (*x < 0) throw std::runtime_error("negative");
  }
};
static jaxprim::PerProcess<Order> orders(2);
static jaxprim::PerProcess<Plan> plans(4);

static void use(int64_t n, double x, bool fails) {
  auto kept = plans.get().take(jaxprim::Key{{&n, sizeof(n)}, {&x, sizeof(x)}}, [&](const jaxprim::Bytes& own) {
    const auto from = orders.get().share(
        jaxprim::Key{{&n, sizeof(n)}},
        [&](const jaxprim::Bytes&) { return jaxprim::make<Order>({}, [](Order* made) { delete made; }, n); });
    return jaxprim::make<Plan>({from}, [](Plan* made) { delete made; }, *from, own.part<double>(1));
  });
  Plan& plan = *kept;
  if (++plan.users != 1 || plan.order.n != n || plan.numbers.at(n - 1) != x || *plan.of != x) std::abort();
  if (fails) throw std::runtime_error("in use");
  --plan.users;
}

static int in_a_child() {
  use(1, 1.0, false);
  const pid_t child = fork();
  if (child == 0) {
    use(1, 1.0, false);
    use(1, 1.0, false);
    int64_t counts[3];
    plans.get().counts(counts);
    _exit(counts[0] != 1 || counts[1] != 1 || counts[2] != 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

int main() {
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < 3000; ++i) {
        try {
          use(1 + (t + i) % 3, i % 50 == 7 ? -1.0 : (i + t) % 5, i % 31 == 0);
        } catch (const std::runtime_error&) {
        }
        if (i % 500 == 0) plans.get().forget(), orders.get().forget();
      }
    });
  for (auto& each : threads) each.join();
  const int child = in_a_child();
  plans.get().forget();
  orders.get().forget();
  int64_t plan[3], order[3];
  plans.get().counts(plan);
  orders.get().counts(order);
  std::printf("made %lld and %lld, alive %lld and %lld, child %d\\n", (long long)plan[0], (long long)order[0],
              (long long)plan[2], (long long)order[2], child);
  return plan[2] != 0 || order[2] != 0 || child != 0;
}
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "driver.cpp", Path(folder) / "driver"
        source.write_text(DRIVER)
        for sanitizer in ("address,undefined", "thread"):
            words = ["g++", "-std=c++17", "-O1", "-g", f"-fsanitize={sanitizer}", "-pthread", f"-I{NATIVE}"]
            subprocess.run([*words, str(source), "-o", str(program)], check=True)
            print(sanitizer, subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
