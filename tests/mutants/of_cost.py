# SPDX-License-Identifier: MIT
"""Mutations of what measures the cost of MPTCP, and of its page and picture."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "benchmarks/cost.py",
        "project/cost",
        ("*(reversed(pair) if more else pair)", "*pair"),
        ('pair = (f"{kind} {program}", f"tcp {program}")', 'pair = (f"{kind} {program}", "tcp C")'),
        ('optional = name == "memory" and not everything', 'optional = name == "memory"'),
        ('"throughput": True, "transfer": False', '"throughput": True, "transfer": True'),
    ),
    *of(
        "benchmarks/cost_networks.py",
        "project/cost",
        ("if (shot.status, shot.live_count) != (wanted, kind.subflows):", "if shot.status != shot.status:"),
        (
            "wanted = mp.Status.MPTCP if kind.client == kind.listener == mp.IPPROTO_MPTCP else mp.Status.TCP",
            "wanted = mp.Status.MPTCP if kind.listener == mp.IPPROTO_MPTCP else mp.Status.TCP",
        ),
        ("testing.set_limits(kind.subflows - 1, kind.subflows - 1)", "testing.set_limits(0, 0)"),
    ),
    *of(
        "benchmarks/cost_memory.py",
        "project/cost",
        ("if round(one.median) > 0 and abs(one.median - round(one.median)) <= _WHOLE", "if one.median > 0"),
    ),
    *of(
        "benchmarks/cost_page.py",
        "project/cost",
        ("noise and noise.low <= found.median <= noise.high", "noise and noise.low <= found.low"),
        ("for edge in (one.low, one.high)", "for edge in (one.low, one.median)"),
        ('INK, BLUE, ORANGE = "#767676"', 'INK, BLUE, ORANGE = "#555555"'),
        ("part = (math.log2(ratio) - low) / (high - low)", "part = 0.5"),
        (
            'found.append(rows if shown else f"Programs in {program} were not measured.")',
            "found.append(rows)",
        ),
    ),
    *of(
        "benchmarks/measure.py",
        "project/benchmarks",
        ("random.sample(list(ways), len(ways))", "list(ways)"),
    ),
)
