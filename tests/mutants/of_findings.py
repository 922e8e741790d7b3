# SPDX-License-Identifier: MIT
"""Mistakes in the programs of docs/findings, and in what counts how often they show their faults."""

from __future__ import annotations

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "docs/findings/reproduce.py",
        "findings/findings",
        ("if fault and name != list(cases)[-1]:", "if False:"),
        ("traceback.print_exc() or 3", "traceback.print_exc() or 1"),
        ("sys.exit(int(fault))", "sys.exit(1)"),
        ("if not (support := mp.is_supported()):", "if (support := mp.is_supported()) is None:"),
    ),
    *of(
        "docs/findings/bytes_again.py",
        "findings/findings",
        ("frame[at : at + length] = bytes([NOP]) * length", "pass"),
    ),
    *of(
        "docs/findings/first_byte_lost.py",
        "findings/findings",
        ('got != b"abc"', 'got == b""'),
    ),
    *of(
        "tests/findings/figures.py",
        "findings/findings",
        ("_at_most(shown - 1, of, rate) < 0.025", "_at_most(shown, of, rate) < 0.025"),
        ("_at_most(shown, of, rate) > 0.025", "_at_most(shown, of, rate) > 0.05"),
        ('if row.get("findings") is not None', 'if "findings" in row'),
    ),
    *of(
        "tests/findings/pages.py",
        "findings/findings",
        ('told["not shown"].get(name, SHOWN)', 'told["not shown"].get(name, NOT_SHOWN)'),
    ),
    *of(
        "tests/kernels/options.py",
        "project/options",
        ("if word != last:", "if word != last or parts:"),
        ('known["release"] != outcome.figures["release"]', "False"),
    ),
    *of(
        "tests/kernels/verdict.py",
        "project/kernels",
        ("if status != 1}", "if status == 0}"),
        ("    if ask:\n        return reasons", "    if False:\n        return reasons"),
    ),
)
