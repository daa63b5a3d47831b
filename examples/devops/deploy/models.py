"""What is kept in the database: the services, and what each user has to be told about them."""

import datetime

from django.conf import settings
from django.db import models
from django.utils import timezone

# A deployment whose process was killed never reports its end. After this time it
# counts as dead, and the service may be deployed again.
ABANDONED_AFTER = datetime.timedelta(seconds=60)


class Service(models.Model):
    class State(models.TextChoices):
        IDLE = "idle", "Idle"
        DEPLOYING = "deploying", "Deploying"
        LIVE = "live", "Live"
        FAILED = "failed", "Failed"

    uid = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=200, blank=True)
    version = models.CharField(max_length=20, default="1.0.0")
    state = models.CharField(max_length=10, choices=State.choices, default=State.IDLE)
    started_at = models.DateTimeField(null=True, blank=True)
    deployed_at = models.DateTimeField(null=True, blank=True)
    # What the last deployment said, so that a page that is opened later can show it.
    lines = models.JSONField(default=list, editable=False)
    # Its deployments fail, for a demonstration of that.
    breaks = models.BooleanField(default=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def next_version(self) -> str:
        major, minor, patch = self.version.split(".")
        return f"{major}.{minor}.{int(patch) + 1}"

    def claim(self) -> bool:
        """Become the one deployment of this service; False if another one is running."""
        now = timezone.now()
        running = models.Q(state=self.State.DEPLOYING, started_at__gt=now - ABANDONED_AFTER)
        free = Service.objects.filter(pk=self.pk).exclude(running)
        if not free.update(state=self.State.DEPLOYING, started_at=now):
            return False
        self.refresh_from_db()
        return True

    def finish(self, version: str) -> None:
        self.version = version
        self.state = self.State.LIVE
        self.deployed_at = timezone.now()
        self.save(update_fields=["version", "state", "deployed_at"])

    def fail(self) -> None:
        self.state = self.State.FAILED
        self.save(update_fields=["state"])

    def keep(self, line: dict) -> None:
        self.lines.append(line)
        self.save(update_fields=["lines"])

    def as_dict(self) -> dict[str, str | None]:
        """What a page shows of a service, as it travels in an event."""
        return {
            "uid": self.uid,
            "state": self.state,
            "label": self.get_state_display(),
            "version": self.version,
            "deployed_at": self.deployed_at.isoformat() if self.deployed_at else None,
        }


class Notification(models.Model):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications"
    )
    service = models.ForeignKey(Service, on_delete=models.CASCADE)
    text = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [models.Index(fields=["user", "read_at"])]

    def __str__(self) -> str:
        return self.text

    def as_dict(self) -> dict[str, str]:
        return {
            "text": self.text,
            "service": self.service.uid,
            "at": self.created_at.isoformat(),
        }
