"""manage.py deploy_demo SERVICE: a deployment in this process, seen by the server's pages."""

from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from redis.exceptions import RedisError

from deploy.models import Service
from deploy.pipeline import Deployment, StepFailed


class Command(BaseCommand):
    help = "Deploy a service (simulated) from this process and push the progress to all pages."

    def add_arguments(self, parser):
        parser.add_argument("service", help="uid of the service, as in the address of its page")
        parser.add_argument(
            "--pause",
            type=float,
            default=settings.DEPLOY_PAUSE,
            help="seconds between two lines (%(default)s)",
        )

    def handle(self, *args, service, pause, **options):
        if isinstance(get_channel_layer(), InMemoryChannelLayer):
            raise CommandError(
                "the in-memory channel layer ends at this process: no page would see anything."
                " Set REDIS_URL (say redis://127.0.0.1:6379/0) for this command and for the server."
            )
        found = self.find(service)
        if not found.claim():
            raise CommandError(f"{service} is already being deployed")
        try:
            Deployment(found, "deploy_demo", pause, echo=self.stdout.write).run()
        except StepFailed as error:
            raise CommandError(f"{service} was not deployed: {error}") from None
        except RedisError as error:
            raise CommandError(f"cannot reach Redis at {settings.REDIS_URL}: {error}") from error

    def find(self, uid):
        try:
            return Service.objects.get(uid=uid)
        except Service.DoesNotExist:
            known = ", ".join(Service.objects.values_list("uid", flat=True))
            raise CommandError(
                f"no service {uid!r}; there are: {known or 'none, run demo_data first'}"
            ) from None
