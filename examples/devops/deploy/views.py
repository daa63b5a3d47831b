"""Plain synchronous views: the pages, and the button that starts a deployment."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from . import pipeline
from .models import Service


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
    notifications = request.user.notifications.select_related("service")
    context = {
        "service": get_object_or_404(Service, uid=uid),
        "services": Service.objects.all(),
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
