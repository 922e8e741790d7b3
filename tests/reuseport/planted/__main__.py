# SPDX-License-Identifier: MIT
"""``python -m tests.reuseport.planted [TIMES [WORD]]``: audit each planted server whose name has WORD."""

from __future__ import annotations

import sys
import time

from .table import PLANTED, WORDS, audit


def main(times: int = 1, word: str = "") -> int:
    """The exit status: 0 if all were named rightly."""
    wrong = 0
    for one in PLANTED:
        if word not in one.name:
            continue
        print(f"{one.name}: {one.told}")
        for _ in range(times):
            begun = time.monotonic()
            seen = audit(one)
            wrong += not seen.right
            verdict = seen.text.strip().splitlines()[-1][:300]
            print(
                f"  {'ok   ' if seen.right else 'WRONG'} wanted {WORDS[one.wanted]}, saw "
                f"{WORDS.get(seen.code, seen.code)}, {time.monotonic() - begun:.0f} s: {verdict}",
                flush=True,
            )
    print(f"{wrong} named wrongly")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1, *sys.argv[2:3]))
