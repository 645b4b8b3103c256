"""The peer: djangorestframework-api-key on SQLite, behind gunicorn.

Usage: python server.py DATABASE KEYS

Fills DATABASE on first use, writes all keys to DATABASE.keys, and prints the port it listens on. One worker that keeps
connections open, with gunicorn's parser in C, the database's connection kept, no middleware and no log: the cheapest way
that it has on one core. The view answers an empty 200 to whoever has a key.
"""

import os
import sys

import django
from django.conf import settings

database, count = sys.argv[1], int(sys.argv[2])
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": database,
            "CONN_MAX_AGE": None,
            "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "rest_framework_api_key"],
    LOGGING_CONFIG=None,
    MIDDLEWARE=[],
    ROOT_URLCONF=__name__,
    SECRET_KEY="a-secret-for-benchmarks-only-0123456789",
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.http import HttpResponse
from django.urls import path
from gunicorn.app.base import BaseApplication
from rest_framework.views import APIView
from rest_framework_api_key.models import APIKey
from rest_framework_api_key.permissions import HasAPIKey


class Verify(APIView):
    authentication_classes = []
    permission_classes = [HasAPIKey]

    def get(self, request):
        return HttpResponse(headers={"Content-Length": "0"})

    def handle_exception(self, error):
        return HttpResponse(status=403, headers={"Content-Length": "0"})


urlpatterns = [path("verify", Verify.as_view())]


def seed():
    """The same rows as if each had been made by itself."""
    call_command("migrate", verbosity=0)
    rows, keys = [], []
    for _ in range(count):
        row = APIKey(name="token")
        keys.append(APIKey.objects.assign_key(row))
        rows.append(row)
    APIKey.objects.bulk_create(rows, batch_size=1000)
    # Last of all: its presence says that the rest is complete.
    with open(f"{database}.keys", "w") as file:
        file.write("\n".join(keys))


class Server(BaseApplication):
    def load_config(self):
        settings = {
            "bind": "127.0.0.1:0",
            "http_parser": "fast",
            "keepalive": 600,
            "loglevel": "critical",
            "threads": 1,
            "when_ready": lambda server: print(f"listening on {server.LISTENERS[0]}", flush=True),
            "worker_class": "gthread",
            "workers": 1,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self):
        return get_wsgi_application()


if not os.path.exists(f"{database}.keys"):
    if os.path.exists(database):
        os.remove(database)
    seed()
connections.close_all()
# What gunicorn would take for its own.
sys.argv = sys.argv[:1]
Server().run()
