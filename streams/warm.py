"""Compile everything ahead of time: most of a minute, once per machine and version; afterwards it is read from disk.

    python -m headrace.streams.warm
"""

from headrace.features.kernel import warm as kernel
from headrace.models import trees

if __name__ == "__main__":
    kernel.warm()
    trees.warm()
