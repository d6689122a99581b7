"""A Django project as its documentation on REMOTE_USER has it; ``HEADER`` names another key of ``request.META`` than that."""

import os
from pathlib import Path

HEADER = os.environ.get("HEADER", "")

SECRET_KEY = "of this test"
ALLOWED_HOSTS = ["django.example.com", "wsgi.example.com"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "site_views.WeComMiddleware" if HEADER else "django.contrib.auth.middleware.RemoteUserMiddleware",
]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(os.environ["STATE"]) / "django.sqlite3"}}
ROOT_URLCONF = "site_views"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
