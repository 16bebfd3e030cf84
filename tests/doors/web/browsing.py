"""The thread in which tests of the browser run.

Playwright keeps a loop and greenlets in the thread that it is used in, in which then no other loop can run.
"""

from concurrent.futures import ThreadPoolExecutor

THREAD = ThreadPoolExecutor(1, thread_name_prefix="browser")
