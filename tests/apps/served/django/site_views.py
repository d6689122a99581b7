"""The project's views: who Django says is there, and what it was told."""

from urllib.parse import quote, unquote

from django.conf import settings
from django.contrib.auth.middleware import RemoteUserMiddleware
from django.http import HttpRequest, JsonResponse
from django.urls import re_path


class WeComMiddleware(RemoteUserMiddleware):
    """Behind a server that speaks HTTP (gunicorn) there is no REMOTE_USER: a header instead."""

    header = settings.HEADER


def told(request: HttpRequest) -> JsonResponse:
    length = 0
    while chunk := request.read(1 << 16):
        length += len(chunk)
    environ = {name: quote(value, encoding="latin-1") for name, value in request.META.items() if isinstance(value, str)}
    name = unquote(request.headers.get("X-WeCom-Name", ""))
    answer = {"user": request.user.get_username(), "name": name, "length": length, "environ": environ}
    return JsonResponse(answer, status=int(request.GET.get("status", 200)))


urlpatterns = [re_path("", told)]
