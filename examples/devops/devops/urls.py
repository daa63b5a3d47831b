from django.conf import settings
from django.contrib.auth.views import LogoutView
from django.urls import include, path, re_path

from deploy.views import DemoLogin, not_found

urlpatterns = [
    path("login/", DemoLogin.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("", include("deploy.urls")),
]
if settings.DEBUG:
    # The same page as without DEBUG, which takes templates/404.html by itself.
    urlpatterns.append(re_path(r"^.*/$", not_found))
