"""Plain synchronous views: the pages, and the button that starts a deployment."""

from functools import lru_cache

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.contrib.auth.hashers import check_password
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from . import pipeline
from .models import Service

DEMO_USER = DEMO_PASSWORD = "demo"


@lru_cache(maxsize=1)
def is_demo_password(encoded: str) -> bool:
    """Kept by the hash: to compute one takes a noticeable time, and the login page is open to all."""
    return check_password(DEMO_PASSWORD, encoded)


class DemoLogin(LoginView):
    """Says who may log in, as long as it is true and no secret."""

    redirect_authenticated_user = True

    def get_context_data(self, **more):
        user = get_user_model().objects.filter(username=DEMO_USER).first()
        shown = user is not None and is_demo_password(user.password)
        return super().get_context_data(demo=DEMO_USER if shown else "", **more)


def not_found(request: HttpRequest, **_: str) -> HttpResponse:
    return render(request, "404.html", status=404)


@require_GET
@login_required
def index(request: HttpRequest) -> HttpResponse:
    first = Service.objects.first()
    if first:
        return redirect("service", uid=first.uid)
    return render(request, "deploy/empty.html")


@require_GET
@login_required
def service(request: HttpRequest, uid: str) -> HttpResponse:
    found = Service.objects.defer("lines").filter(uid=uid).first()
    if found is None:
        return not_found(request)
    notifications = request.user.notifications.select_related("service")
    context = {
        "service": found,
        "services": Service.objects.defer("lines"),
        "notifications": notifications[:12],
        "unread": notifications.filter(read_at=None).count(),
        # Another process can be heard through Redis only.
        "from_outside": bool(settings.REDIS_URL),
    }
    return render(request, "deploy/service.html", context)


@require_POST
@login_required
def deploy(request: HttpRequest, uid: str) -> HttpResponse:
    """Start a deployment. The page asks for JSON; a browser without script is sent back."""
    service = get_object_or_404(Service, uid=uid)
    claimed = service.claim()
    if claimed:
        pipeline.start(service, request.user.get_username())
    if "application/json" not in request.headers.get("Accept", ""):
        return redirect("service", uid=uid)
    if not claimed:
        return JsonResponse({"error": f"{service.name} is already being deployed"}, status=409)
    return JsonResponse({"started": True}, status=202)
