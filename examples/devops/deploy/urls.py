from django.urls import path

from . import views

urlpatterns = [
    path("", views.index, name="index"),
    path("services/<slug:uid>/", views.service, name="service"),
    path("services/<slug:uid>/deploy/", views.deploy, name="deploy"),
]
