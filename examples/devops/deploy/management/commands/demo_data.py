"""manage.py demo_data: services to play with and a user to log in as. May be run again."""

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand

from deploy.models import Service
from deploy.views import DEMO_PASSWORD, DEMO_USER

SERVICES = [
    ("web-frontend", "Web frontend", "Pages and assets for customers", "2.14.3"),
    ("payments", "Payments", "Cards, invoices and refunds", "1.8.0"),
    ("search", "Search", "Index and suggestions", "0.31.7"),
    ("notifications", "Notifications", "Mail, push and text messages", "3.2.1"),
    ("image-resizer", "Image resizer", "Thumbnails on demand", "1.0.12"),
]
BROKEN = (
    "invoices",
    "Invoices",
    "Its tests fail: see what a failed deployment looks like",
    "0.9.4",
)


class Command(BaseCommand):
    help = "Create the demonstration services and the demonstration user (safe to run again)."

    def add_arguments(self, parser):
        parser.add_argument("--user", default=DEMO_USER, help="name of the user (demo)")
        parser.add_argument("--password", default=DEMO_PASSWORD, help="password of the user (demo)")

    def handle(self, *args, user, password, **options):
        for uid, name, description, version in [*SERVICES, BROKEN]:
            values = {"name": name, "description": description, "version": version}
            values["breaks"] = uid == BROKEN[0]
            Service.objects.get_or_create(uid=uid, defaults=values)
        account, _ = get_user_model().objects.get_or_create(username=user)
        # What is printed below has to be true even if somebody changed it meanwhile.
        if not account.check_password(password):
            account.set_password(password)
            account.save()
        self.stdout.write(f"user:     {user}\npassword: {password}")
