"""What differs between the tasks in a run's way from data to submission; everything else is shared."""

from typing import TYPE_CHECKING

from src.errors import ProjectError, nearest

if TYPE_CHECKING:
    from src.flows.base import Flow

TASKS = ("anomaly", "caption", "detection")


def flow_of(task: str) -> "Flow":
    """The flow of a task.

    Raises:
        ProjectError: there is none of that name.
    """
    if task == "anomaly":
        from src.flows.anomaly import AnomalyFlow

        return AnomalyFlow()
    if task == "caption":
        from src.flows.caption import CaptionFlow

        return CaptionFlow()
    if task == "detection":
        from src.flows.detection import DetectionFlow

        return DetectionFlow()
    raise ProjectError(f"task '{task}' cannot be run.{nearest(task, TASKS)} Known: {', '.join(TASKS)}.")
