"""``headrace down``: stop what ``headrace up`` has started."""

from headrace.streams.cli_common import told
from headrace.streams.cli_up import FOLDER, FolderOption


def down(folder: FolderOption = FOLDER) -> None:
    """Stop the supervisor of a folder: workers in the order of the flow, then embedded services; waits for the end.

    Example: headrace down --folder var/up
    """
    def work() -> None:
        from headrace.streams.detached import take_down
        from headrace.streams.up_folder import UpFolder

        chosen = UpFolder(folder)
        print("stopped" if take_down(chosen) else f"nothing is running in {chosen}")

    told(work)
