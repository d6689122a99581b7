"""The project under a WSGI server; the database is made on the way."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
call_command("migrate", verbosity=0)
