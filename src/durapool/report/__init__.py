"""Pictures of an execution after the fact: a page for people, a trace for Perfetto.

    records --reading--> Log --placing--> Bars on Lanes --model--> Report --page--> report.html
                                                                          --trace--> trace.json

Everything but the last arrow is pure: records in, plain data out. Nothing here writes to a store.
"""

from durapool.report.model import Report, build
from durapool.report.page import render
from durapool.report.trace import chrome_trace

__all__ = ["Report", "build", "chrome_trace", "render"]
