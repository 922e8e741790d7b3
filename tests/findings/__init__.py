# SPDX-License-Identifier: MIT
"""The programs of docs/findings, each of which shows a fault of the kernel; and the figures of its pages.

    python -m tests.findings [--write] [--rounds N] [NAME ...]

From the ground up (imports only go down):

    programs     the findings, and one run of a program
    figures      how often each shows here, with bounds, and on which kernels
    pages        what of that stands on the pages
    __main__     the command
"""
