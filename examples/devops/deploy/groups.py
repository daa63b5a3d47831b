"""Names of the channel-layer groups: one place, so that senders and consumers agree."""

# Every page listens here for changes of any service's state.
SERVICES = "services"


def watchers(service_uid: str) -> str:
    """Everybody who has the page of this service open."""
    return f"chat_{service_uid}"


def tabs(user_id: int) -> str:
    """All open tabs of one user."""
    return f"notify_{user_id}"
