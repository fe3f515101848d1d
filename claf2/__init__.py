"""claf2 fine-tunes language encoders with fixed, published recipes, and gives scores that can be trusted.

Data goes one way: config → readers → tokenizers and heads (features) → batch → model → loop → metrics → report.
``run.py`` joins the parts and is the place to start reading; ``loop.py`` is the only place where weights change.
A *package* here is a family (an abstract member and its registry, one member a file); a *module* is one thing.
Tasks are rows of a table, written with the names exported here and found the same way as a user's own.
"""

from __future__ import annotations

from claf2.task import Published, Suite, Task, register_suite, register_task

__all__ = ["Published", "Suite", "Task", "__version__", "register_suite", "register_task"]

__version__ = "0.1.0"
