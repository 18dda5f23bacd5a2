"""Choose the implementation that computes an operation on a platform.

Functions under ``@derives("lowering", ...)``: (rules, platform) -> the `Rule` that runs.
"""

from __future__ import annotations

from jaxprim._calls import Call
from jaxprim._errors import RuleMissing, message
from jaxprim._rules import Rule, RuleSet
from jaxprim.derive.table import ANY, choose, derives


def which_runs(call: Call, platform: str | None) -> Rule:
    """The implementation that `jaxprim.use` or the batching choice sets; otherwise the platform's.

    Args:
        call: the application.
        platform: the platform; None for one without rules of its own, or if the platform is not known yet.
    """
    rules = call.rules
    if call.using is not None:
        return rules.given[call.using]
    choice = choose(rules, "lowering", platform, given=False)
    if choice.row is None and platform is None:  # only kernels: any of them gives the types
        choice = choose(rules, "lowering", ANY, given=False)
    if choice.row is None:
        raise _not_registered(rules, platform)
    return choice.derive(rules, platform)


def runs_on_host(rules: RuleSet, platform: str) -> bool:
    """Whether a call on this platform is a call of the host function."""
    return choose(rules, "lowering", platform).source == "host"


@derives("lowering", "kernel")
def kernel_of_platform(rules: RuleSet, platform: str | None) -> Rule:
    """The kernel of the platform; the first kernel if no platform is known."""
    kernels = rules.kernels()
    return kernels.get(platform or "") or next(iter(kernels.values()))


@derives("lowering", "impl")
def traced_impl(rules: RuleSet, platform: str | None) -> Rule:
    return rules.given["impl"]


@derives("lowering", "host")
def host_function(rules: RuleSet, platform: str | None) -> Rule:
    return rules.given["host"]


def _not_registered(rules: RuleSet, platform: str | None) -> RuleMissing:
    registered = sorted({*rules.kernels(), *(p or "any" for p in rules.lowerings())})
    return RuleMissing(
        message(
            f"{rules.name}: not registered for {platform}; registered: {', '.join(registered) or 'none'}.",
            got=rules.listed,
            expected=f"a kernel for '{platform}', or an impl as fallback",
            rule=rules.implementation_author,
            write=f"@{rules.name}.def_impl",
        )
    )
