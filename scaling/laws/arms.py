"""Names of the arms of a study that are compared, and which control belongs to which protocol."""

CLASSICAL, HISTOGRAM = "classical", "histogram"
SUPERVISED = ("supervised out of domain", "supervised in domain")


def baseline_arm(protocol: str) -> str:
    """The fair control of a protocol: the same recipe on an untrained encoder."""
    return "scratch" if protocol.startswith("finetune") else "random"
