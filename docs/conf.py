# SPDX-License-Identifier: MIT
"""The documentation site. From the checkout's root, with ``pip install '.[docs]'``:

python -m sphinx -W --keep-going -n docs build/site

It needs no network, and the same sources give the same bytes.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.append(str(HERE.parent))  # tests.project.share: the table of the commands

import mptcp_sockopt  # noqa: E402  # the path is set first

project = "mptcp-sockopt"
author = copyright = "The mptcp-sockopt maintainers"
version = release = mptcp_sockopt.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "from_code", "from_github"]
templates_path: list[str] = []
smartquotes = False  # --option stays --option
highlight_language = "none"  # a block without a kind is what a program prints
nitpicky = True
# Type variables, protocols and what typing_extensions has: in signatures, but nobody imports them.
nitpick_ignore_regex = [
    ("py:class", r"Buffer|Kind|mptcp_sockopt\._fields\.Field"),
    ("py:class", r"(.*\.)?(T|_L|_P|HasFileno|HasExtraInfo|Server)"),
]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
add_module_names = False

html_baseurl = "https://mptcp-sockopt.github.io/mptcp-sockopt/"
html_theme = "furo"
html_title = "mptcp-sockopt"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "source_repository": "https://github.com/mptcp-sockopt/mptcp-sockopt/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
