# SPDX-License-Identifier: MIT
"""Real Debian kernels of several architectures, booted under qemu, with the project's wheel inside.

    python -m tests.kernels --small

From the ground up (imports only go down):

    rows        which kernels; what each architecture needs
    debian      finding and fetching packages, by an apt of our own
    wheels      the project's wheel for each architecture
    image       the initramfs: Debian's Python, pytest, the wheel, the tests
    boot        one qemu, from start to its end
    verdict     what a guest said, against expected.json
    options     what kernels answer to socket options: docs/options.md
    table       rows for people: lines, Markdown, JSON; recordings for tests/vectors/
    __main__    the command

Inside the guest: guest (PID 1); probe and outside (what the kernel answers); faults (the programs of
docs/findings); guest_pytest (a plugin that counts).
README.md says how to add a row.
"""
